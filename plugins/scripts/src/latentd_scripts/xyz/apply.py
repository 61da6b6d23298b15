"""How the axes of the X/Y/Z plot change a cell's request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from latentd.api import Checkpoint, GenerationRequest, InvalidRequest, JsonValue, NotFound, Services, near_matches

V = TypeVar("V")
Apply: TypeAlias = Callable[[GenerationRequest, V, Sequence[V], Services], GenerationRequest]
"""The request of a cell, from the request, the cell's value, and all values of the axis."""

CHECKPOINT_COST = 1.0
_NO_CHECKPOINT = (None, "", "None", "none")
_RESTORERS = {"codeformer": "CodeFormer", "gfpgan": "GFPGAN"}


def field(name: str) -> Apply[JsonValue]:
    """A function that sets a field of the request."""

    def apply(
        request: GenerationRequest, value: JsonValue, values: Sequence[JsonValue], services: Services
    ) -> GenerationRequest:
        changes: dict[str, JsonValue] = {name: value}
        return replace(request, **changes)

    return apply


def option(key: str) -> Apply[JsonValue]:
    """A function that overrides an option."""
    return lambda request, value, values, services: override(request, **{key: value})


def switch(key: str) -> Apply[str]:
    """A function that overrides an option that is true or false."""
    return lambda request, value, values, services: override(request, **{key: value.strip().lower() == "true"})


def override(request: GenerationRequest, **options: JsonValue) -> GenerationRequest:
    """``request`` with further ``override_settings``."""
    return replace(request, override_settings={**request.override_settings, **options})


def replace_in_prompt(
    request: GenerationRequest, value: str, values: Sequence[str], services: Services
) -> GenerationRequest:
    """``request`` with the first of the values replaced by ``value``, in prompt and negative prompt.

    :raises InvalidRequest: the first value is in neither.
    """
    wanted, prompt, negative = values[0], str(request.prompt), str(request.negative_prompt)
    if wanted not in prompt and wanted not in negative:
        raise InvalidRequest(f"Prompt S/R did not find {wanted} in prompt or negative prompt.")
    return replace(request, prompt=prompt.replace(wanted, value), negative_prompt=negative.replace(wanted, value))


def reorder_prompt(
    request: GenerationRequest, value: tuple[str, ...], values: Sequence[tuple[str, ...]], services: Services
) -> GenerationRequest:
    """``request`` with the words of ``value`` in its prompt rearranged to the order of ``value``.

    :raises InvalidRequest: a word is not in the prompt.
    """
    rest, built = str(request.prompt), ""
    for place, word in enumerate(sorted(value, key=rest.find)):
        before, found, rest = rest.partition(word)
        if not found:
            raise InvalidRequest(f"Prompt order did not find {word} in the prompt.")
        built += before + value[place]
    return replace(request, prompt=built + rest)


def checkpoint(request: GenerationRequest, value: str, values: Sequence[str], services: Services) -> GenerationRequest:
    """``request`` with the checkpoint whose name fits ``value`` best."""
    return override(request, sd_model_checkpoint=_checkpoint(value, services).title)


def check_checkpoints(values: Sequence[str], services: Services) -> None:
    """Check the names of checkpoints.

    :raises NotFound: a name fits no checkpoint.
    """
    for value in values:
        if value not in _NO_CHECKPOINT:
            _checkpoint(value, services)


def _checkpoint(name: str, services: Services) -> Checkpoint:
    found = services.models.find(name)
    if found is None:
        titles = [known.title for known in services.models.checkpoints]
        raise NotFound(f"Unknown checkpoint: {name}", hint=near_matches(name, titles))
    return found


def check_samplers(values: Sequence[str], services: Services) -> None:
    """Check the names of samplers.

    :raises NotFound: a name fits no sampler.
    """
    samplers = services.registry.samplers
    for value in values:
        if samplers.find(value) is None:
            raise NotFound(f"Unknown sampler: {value}", hint=near_matches(value, list(samplers)))


def vae(request: GenerationRequest, value: str, values: Sequence[str], services: Services) -> GenerationRequest:
    """``request`` with the VAE whose name contains ``value``, the shortest if there are several, else Automatic."""
    wanted = value.lower().strip()
    if wanted == "none":
        return override(request, sd_vae="None")
    names = sorted(_vae_names(services), key=len)
    return override(request, sd_vae=next((name for name in names if wanted in name.lower()), "Automatic"))


def _vae_names(services: Services) -> list[str]:
    return [found.name for found in services.models.vaes]


def styles(request: GenerationRequest, value: str, values: Sequence[str], services: Services) -> GenerationRequest:
    """``request`` with further styles."""
    return replace(request, styles=(*request.styles, *(name.strip() for name in value.split(","))))


def unipc_order(request: GenerationRequest, value: int, values: Sequence[int], services: Services) -> GenerationRequest:
    """``request`` with UniPC's order, at most the number of steps minus 1."""
    return override(request, uni_pc_order=min(value, request.steps - 1))


def face_restore(
    request: GenerationRequest, value: str, values: Sequence[str], services: Services
) -> GenerationRequest:
    """``request`` with face restoration on, off, or by the restorer of this name."""
    wanted = value.strip().lower()
    if wanted in _RESTORERS:
        return replace(override(request, face_restoration_model=_RESTORERS[wanted]), restore_faces=True)
    return replace(request, restore_faces=wanted in ("true", "yes", "y", "1"))
