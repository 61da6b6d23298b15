"""Upscalers by name, for hires fix, img2img and extras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from latentd.images.upscalers import RESIZERS, upscale_with
from latentd.plugins.blame import blamed, owner_of, picture, text
from latentd.services import FaceRestorerSpec, InterrogatorSpec, UpscaleContext

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Generation
    from latentd.pipeline.generation import RunningGeneration
    from latentd.services import Registered

Upscale = Callable[["Image", float], "Image"]
_RESIZERS = {r.name: r for r in RESIZERS}


def upscaler_of(gen: RunningGeneration, name: str | None) -> Upscale | None:
    """The upscaler as ``resize_image`` takes it; None (Lanczos) for no name or ``None``."""
    if not name or name == "None":
        return None
    return upscale_function(gen.services.registry, name, worker_context(gen))


def worker_context(generation: Generation) -> UpscaleContext:
    """What an upscaler or a face restorer may use of this job. It ends early when the job is cancelled, not when it is
    interrupted: an interrupted job still returns its picture."""
    control = generation.control

    def check() -> None:
        if control.stop_requested() == "cancel":
            control.check()

    return UpscaleContext(
        options=generation.options, device=str(generation.device), check=check, services=generation.services
    )


def upscale_function(registry: Registered, name: str, context: UpscaleContext) -> Upscale:
    """A callable (image, factor) that follows A1111's rule for reaching a size with upscaler ``name``.

    An unknown name is the first in the list, ``None``, as in A1111; planning refuses it where the request names it.
    """
    if name in _RESIZERS:
        return _RESIZERS[name].upscale
    spec = registry.upscalers.find(name)
    if spec is None:
        return _RESIZERS["None"].upscale

    def run(image: Image, scale: float) -> Image:
        with blamed(owner_of(registry.upscalers, spec.name), f"upscaler {spec.name!r}"):
            return picture(spec.upscale(image, scale, context))

    return lambda image, scale: upscale_with(lambda im: run(im, scale), image, scale)


def restore_with(
    registry: Registered, spec: FaceRestorerSpec, image: Image, weight: float | None, context: UpscaleContext
) -> Image:
    """``image`` with its faces restored by ``spec``; ``weight`` is CodeFormer's."""
    with blamed(owner_of(registry.face_restorers, spec.name), f"face restorer {spec.name!r}"):
        return picture(spec.restore(image, weight, context))


def caption_with(registry: Registered, spec: InterrogatorSpec, image: Image, context: UpscaleContext) -> str:
    """The text with which the interrogator ``spec`` describes ``image``."""
    with blamed(owner_of(registry.interrogators, spec.name), f"interrogator {spec.name!r}"):
        return text(spec.interrogate(image, context))
