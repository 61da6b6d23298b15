"""What the axes of the X/Y/Z plot do to a cell's request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from latentd.api import GenerationRequest, InvalidRequest, NotFound, Services, near_matches

Apply = Callable[[GenerationRequest, Any, Sequence[Any], Services], GenerationRequest]

CHECKPOINT_COST = 1.0
_NO_CHECKPOINT = (None, "", "None", "none")
_RESTORERS = {"codeformer": "CodeFormer", "gfpgan": "GFPGAN"}


def field(name: str) -> Apply:
    """Sets a field of the request."""
    return lambda request, value, values, services: replace(request, **{name: value})


def option(key: str) -> Apply:
    """Overrides an option."""
    return lambda request, value, values, services: override(request, **{key: value})


def switch(key: str) -> Apply:
    """Overrides an option that is true or false."""
    return lambda request, value, values, services: override(request, **{key: value.strip().lower() == "true"})


def override(request: GenerationRequest, **options: Any) -> GenerationRequest:
    """``request`` with further ``override_settings``."""
    return replace(request, override_settings={**request.override_settings, **options})


def replace_in_prompt(
    request: GenerationRequest, value: str, values: Sequence[str], services: Services
) -> GenerationRequest:
    """The first of the values replaced by ``value``, in prompt and negative prompt.

    :raises InvalidRequest: it stands in neither.
    """
    wanted, prompt, negative = values[0], str(request.prompt), str(request.negative_prompt)
    if wanted not in prompt and wanted not in negative:
        raise InvalidRequest(f"Prompt S/R did not find {wanted} in prompt or negative prompt.")
    return replace(request, prompt=prompt.replace(wanted, value), negative_prompt=negative.replace(wanted, value))


def reorder_prompt(
    request: GenerationRequest, value: tuple[str, ...], values: Sequence[Any], services: Services
) -> GenerationRequest:
    """The words of ``value`` put, in its order, where they stand in the prompt."""
    rest, built = str(request.prompt), ""
    for place, word in enumerate(sorted(value, key=rest.find)):
        before, found, rest = rest.partition(word)
        if not found:
            raise InvalidRequest(f"Prompt order did not find {word} in the prompt.")
        built += before + value[place]
    return replace(request, prompt=built + rest)


def checkpoint(request: GenerationRequest, value: str, values: Sequence[str], services: Services) -> GenerationRequest:
    """The checkpoint that a text means best."""
    return override(request, sd_model_checkpoint=_checkpoint(value, services).title)


def check_checkpoints(values: Sequence[str], services: Services) -> None:
    """:raises NotFound: a name means no checkpoint."""
    for value in values:
        if value not in _NO_CHECKPOINT:
            _checkpoint(value, services)


def _checkpoint(name: str, services: Any) -> Any:
    found = services.models.find(name)
    if found is None:
        titles = [known.title for known in services.models.checkpoints]
        raise NotFound(f"Unknown checkpoint: {name}", hint=near_matches(name, titles))
    return found


def check_samplers(values: Sequence[str], services: Services) -> None:
    """:raises NotFound: a name means no sampler."""
    samplers = services.registry.samplers
    for value in values:
        if samplers.find(value) is None:
            raise NotFound(f"Unknown sampler: {value}", hint=near_matches(value, list(samplers)))


def vae(request: GenerationRequest, value: str, values: Sequence[str], services: Any) -> GenerationRequest:
    """The VAE whose name contains ``value``, the shortest first; Automatic where none does."""
    wanted = value.lower().strip()
    if wanted == "none":
        return override(request, sd_vae="None")
    names = sorted(_vae_names(services), key=len)
    return override(request, sd_vae=next((name for name in names if wanted in name.lower()), "Automatic"))


def _vae_names(services: Any) -> list[str]:
    return [found.name for found in services.models.vaes]


def styles(request: GenerationRequest, value: str, values: Sequence[str], services: Services) -> GenerationRequest:
    """Styles beside those of the request."""
    return replace(request, styles=(*request.styles, *(name.strip() for name in value.split(","))))


def unipc_order(request: GenerationRequest, value: int, values: Sequence[int], services: Services) -> GenerationRequest:
    """UniPC's order, below the number of steps."""
    return override(request, uni_pc_order=min(value, request.steps - 1))


def face_restore(
    request: GenerationRequest, value: str, values: Sequence[str], services: Services
) -> GenerationRequest:
    """On or off, or the restorer by name."""
    wanted = value.strip().lower()
    if wanted in _RESTORERS:
        return replace(override(request, face_restoration_model=_RESTORERS[wanted]), restore_faces=True)
    return replace(request, restore_faces=wanted in ("true", "yes", "y", "1"))
