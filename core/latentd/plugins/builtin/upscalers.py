"""The core's resizers, listed as upscalers: None, Lanczos, Nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.hookspecs import hookimpl
from latentd.images.upscalers import RESIZERS, Resizer
from latentd.services import Services, UpscalerSpec, WorkerContext

if TYPE_CHECKING:
    from PIL.Image import Image


@hookimpl
def register_upscalers(services: Services) -> list[UpscalerSpec]:
    """One entry for each resizer."""
    return [_entry(resizer) for resizer in RESIZERS]


def _entry(resizer: Resizer) -> UpscalerSpec:
    def upscale(image: Image, scale: float, context: WorkerContext) -> Image:
        return resizer.upscale(image, scale)

    return UpscalerSpec(name=resizer.name, upscale=upscale)
