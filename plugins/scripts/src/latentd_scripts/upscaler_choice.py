"""Upscalers as arguments of scripts: by name, or by their place in the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentd.api import NotFound, Services, near_matches

RESIZERS = ("None", "Lanczos", "Nearest")
"""Those that need no file."""


def upscaler_names(services: Services) -> list[str]:
    """Every upscaler in the order of ``/sdapi/v1/upscalers``."""
    others = (spec.name for spec in services.registry.upscalers.values() if spec.name not in RESIZERS)
    return [*RESIZERS, *sorted(others, key=str.lower)]


def find_upscaler(wanted: int | str, services: Services) -> str:
    """The name of the upscaler that a script's argument means: a name, or a place in :func:`upscaler_names`.

    :raises NotFound: there is none. :raises NotConfigured: it lacks its file.
    """
    names = upscaler_names(services)
    if isinstance(wanted, int):
        if not 0 <= wanted < len(names):
            raise NotFound(f"there are {len(names)} upscalers, no number {wanted}")
        name = names[wanted]
    else:
        name = next((each for each in names if each.lower() == wanted.lower()), "")
        if not name:
            raise NotFound(f"Upscaler {wanted!r} not found", hint=near_matches(wanted, names))
    spec = services.registry.upscalers.find(name)
    if name not in RESIZERS and spec is not None:
        spec.check()
    return name


def upscaler_files(wanted: int | str, services: Services) -> Sequence[Path]:
    """The model file of the upscaler that :func:`find_upscaler` finds; empty if it has none."""
    spec = services.registry.upscalers.find(find_upscaler(wanted, services))
    return [Path(spec.model_path)] if spec is not None and spec.model_path else []
