"""The hooks of one job: those of every plugin, then the methods of the job's always-on scripts, in one face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latentd.errors import LatentdError, PluginError
from latentd.types import GeneratedImage, Result, UNetHook

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from latentd.pipeline.generation import RunningGeneration
    from latentd.pipeline.img2img import Img2imgStart
    from latentd.pipeline.plan import ScriptCall
    from latentd.plugins.hooks import Hooks


class JobHooks:
    """Calls plugins and scripts; an exception fails the job with the plugin or script named.

    :param plugins: the host's typed calls. :param scripts: the job's always-on scripts with their arguments.
    """

    def __init__(self, plugins: Hooks, scripts: Sequence[ScriptCall]) -> None:
        self.plugins = plugins
        self.scripts = scripts

    def _each(self, method: str, gen: RunningGeneration, *arguments: Any) -> list[Any]:
        return [self._call(call, method, gen, *arguments) for call in self.scripts]

    @staticmethod
    def _call(call: ScriptCall, method: str, gen: RunningGeneration, *arguments: Any) -> Any:
        try:
            return getattr(call.script, method)(gen, call.args, *arguments)
        except LatentdError:
            raise
        except Exception as error:
            raise PluginError(call.script.title, method, error) from error

    def before_process(self, gen: RunningGeneration) -> None:
        self.plugins.before_process(gen)
        self._each("before_process", gen)

    def unet_hooks(self, gen: RunningGeneration) -> list[UNetHook]:
        found = list(self.plugins.unet_hooks(gen))
        for hooks in self._each("unet_hooks", gen):
            found += hooks
        return found

    def modify_conditioning(self, gen: RunningGeneration) -> None:
        self.plugins.modify_conditioning(gen)
        self._each("modify_conditioning", gen)

    def before_batch(self, gen: RunningGeneration) -> None:
        self.plugins.before_batch(gen)
        self._each("before_batch", gen)

    def after_batch(self, gen: RunningGeneration) -> None:
        self.plugins.after_batch(gen)
        self._each("after_batch", gen)

    def before_step(self, gen: RunningGeneration) -> None:
        self.plugins.before_step(gen)

    def after_step(self, gen: RunningGeneration) -> None:
        self.plugins.after_step(gen)

    def modify_guidance(self, gen: RunningGeneration, x0: Tensor, cond: Tensor, uncond: Tensor | None) -> Tensor:
        changed: Tensor = self.plugins.modify_guidance(gen, x0, cond, uncond)
        return changed

    def modify_noise(self, gen: RunningGeneration, noise: Tensor) -> Tensor:
        """The noise that a pass starts with, as the job's scripts leave it."""
        for call in self.scripts:
            noise = self._call(call, "modify_noise", gen, noise)
        return noise

    def blend(
        self, gen: RunningGeneration, latent: Tensor, level: Tensor | None, start: Img2imgStart, *, final: bool
    ) -> Tensor | None:
        """A script's own inpainting blend of ``latent`` with the original, or None; the last to give one wins."""
        chosen = None
        for result in self._each("blend_mask", gen, MaskBlend(latent, level, start, final)):
            chosen = chosen if result is None else result
        return chosen

    def after_sample(self, gen: RunningGeneration, latents: Tensor) -> Tensor:
        latents = self.plugins.after_sample(gen, latents)
        for call in self.scripts:
            latents = self._call(call, "after_sample", gen, latents)
        return latents

    def postprocess_image(self, gen: RunningGeneration, image: Image, index: int) -> Image:
        image = self.plugins.postprocess_image(gen, image, index)
        for call in self.scripts:
            image = self._call(call, "postprocess_image", gen, image, index)
        return image

    def overlay(
        self, gen: RunningGeneration, index: int, overlay: Image | None, overlay_mask: Image | None
    ) -> tuple[Image | None, Image | None] | None:
        """A script's (overlay, overlay mask) for picture ``index`` in place of the core's, or None."""
        chosen = None
        for result in self._each("overlay", gen, index):
            chosen = chosen if result is None else result
        return chosen

    def before_save(self, gen: RunningGeneration, image: Image, index: int, path: str) -> None:
        self.plugins.before_save(gen, image, index, path)

    def infotext(self, gen: RunningGeneration, index: int) -> dict[str, Any]:
        return self.plugins.infotext(gen, index)

    def images_done(self, gen: RunningGeneration, images: list[GeneratedImage]) -> None:
        """Scripts see the finished list and may append to it."""
        self._each("after_process", gen, images)

    def after_process(self, gen: RunningGeneration, result: Result) -> None:
        self.plugins.after_process(gen, result)


class MaskBlend:
    """One inpainting blend of ``latent`` [B,4,h,w] with the original.

    ``level`` [B] is the sigma, or with timestep samplers the timestep; None at the end (``final``). ``start`` has the
    original ``latent`` and the masks.
    """

    __slots__ = ("final", "latent", "level", "start")

    def __init__(self, latent: Tensor, level: Tensor | None, start: Img2imgStart, final: bool) -> None:
        self.latent, self.level, self.start, self.final = latent, level, start, final
