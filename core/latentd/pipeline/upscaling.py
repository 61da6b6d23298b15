"""Upscalers by name, for hires fix, img2img and extras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from latentd.images.upscalers import RESIZERS, upscale_with
from latentd.pipeline.memory import check_upscale
from latentd.plugins.blame import blamed, owner_of, picture, text
from latentd.services import FaceRestorerSpec, InterrogatorSpec, WorkerContext

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Generation
    from latentd.pipeline.generation import RunningGeneration
    from latentd.services import Registered

Upscale = Callable[["Image", float], "Image"]
_RESIZERS = {r.name: r for r in RESIZERS}


def upscaler_of(gen: RunningGeneration, name: str | None) -> Upscale | None:
    """The upscaler as a function for ``resize_image``; None (Lanczos) without a name or for ``None``."""
    if not name or name == "None":
        return None
    return upscale_function(gen.services.registry, name, worker_context(gen))


def worker_context(generation: Generation) -> WorkerContext:
    """The context for upscalers and face restorers of this job.

    Its check raises an exception if the job is cancelled, but not if it is interrupted, because an interrupted job
    still returns its picture.
    """
    control = generation.control

    def check() -> None:
        if control.stop_requested() == "cancel":
            control.check()

    return WorkerContext(
        options=generation.options, device=str(generation.device), check=check, services=generation.services
    )


def upscale_function(registry: Registered, name: str, context: WorkerContext) -> Upscale:
    """A function of (image, factor) that reaches a size with upscaler ``name`` (rules: a1111-extras).

    As in AUTOMATIC1111, an unknown name means the first upscaler, ``None``; in requests, planning refuses it.
    The function raises TooLarge if memory cannot hold what is made on the way.
    """
    spec = registry.upscalers.find(name)
    if name in _RESIZERS or spec is None:
        resizer = _RESIZERS.get(name, _RESIZERS["None"])

        def resize(image: Image, scale: float) -> Image:
            check_upscale(image.size, scale, None)
            return resizer.upscale(image, scale)

        return resize

    def run(image: Image, scale: float) -> Image:
        with blamed(owner_of(registry.upscalers, spec.name), f"upscaler {spec.name!r}"):
            return picture(spec.upscale(image, scale, context))

    def enlarge(image: Image, scale: float) -> Image:
        check_upscale(image.size, scale, spec.scale)
        return upscale_with(lambda im: run(im, scale), image, scale)

    return enlarge


def restore_with(
    registry: Registered, spec: FaceRestorerSpec, image: Image, weight: float | None, context: WorkerContext
) -> Image:
    """``image`` with its faces restored by ``spec``; ``weight`` is CodeFormer's."""
    with blamed(owner_of(registry.face_restorers, spec.name), f"face restorer {spec.name!r}"):
        return picture(spec.restore(image, weight, context))


def caption_with(registry: Registered, spec: InterrogatorSpec, image: Image, context: WorkerContext) -> str:
    """The text with which the interrogator ``spec`` describes ``image``."""
    with blamed(owner_of(registry.interrogators, spec.name), f"interrogator {spec.name!r}"):
        return text(spec.interrogate(image, context))
