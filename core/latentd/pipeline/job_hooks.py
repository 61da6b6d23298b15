"""The hooks of one job behind one interface: those of all plugins, then methods of the job's always-on scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from latentd.generations import Img2imgStart, MaskBlend, UNetHook
from latentd.plugins import blame
from latentd.plugins.blame import blamed, owner_of
from latentd.types import GeneratedImage, Result

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from latentd.generations import AnyScript, Generation, ScriptCall
    from latentd.plugins.hooks import Hooks
    from latentd.types import JsonValue


R = TypeVar("R")
Check = Callable[[object], R]


def _nothing(value: object) -> None:
    """A check for methods whose results are ignored."""


def _or_none(check: Check[R]) -> Check[R | None]:
    return lambda value: None if value is None else check(value)


def script_place(script: AnyScript, method: str) -> str:
    """The name of a script's method in errors."""
    return f"script {script.title!r}, {method}"


class JobHooks:
    """Calls plugins and scripts; an exception fails the job with the plugin or script named.

    :param plugins: the hooks of plugins.
    :param scripts: the job's always-on scripts with their arguments.
    """

    def __init__(self, plugins: Hooks, scripts: Sequence[ScriptCall]) -> None:
        self.plugins = plugins
        self.scripts = scripts

    def _each(self, method: str, gen: Generation, *arguments: object, check: Check[R]) -> list[R]:
        return [self._call(call, method, gen, *arguments, check=check) for call in self.scripts]

    def _tell(self, method: str, gen: Generation, *arguments: object) -> None:
        self._each(method, gen, *arguments, check=_nothing)

    @staticmethod
    def _call(call: ScriptCall, method: str, gen: Generation, *arguments: object, check: Check[R]) -> R:
        """The result of the script's method, checked by ``check``."""
        with blamed(owner_of(gen.services.registry.scripts, call.script.title), script_place(call.script, method)):
            return check(getattr(call.script, method)(gen, call.args, *arguments))

    def before_process(self, gen: Generation) -> None:
        """The models are loaded and nothing is computed yet."""
        self.plugins.before_process(gen)
        self._tell("before_process", gen)

    def unet_hooks(self, gen: Generation) -> list[UNetHook]:
        """The UNet hooks of plugins and scripts for this job."""
        found = list(self.plugins.unet_hooks(gen))
        for call in self.scripts:
            for hook in self._call(call, "unet_hooks", gen, check=blame.hooks):
                hook.owner = owner_of(gen.services.registry.scripts, call.script.title)
                found.append(hook)
        return found

    def modify_conditioning(self, gen: Generation) -> None:
        """``gen.conditioning`` of the next batch is complete."""
        self.plugins.modify_conditioning(gen)
        self._tell("modify_conditioning", gen)

    def before_batch(self, gen: Generation) -> None:
        """A batch is about to be sampled."""
        self.plugins.before_batch(gen)
        self._tell("before_batch", gen)

    def after_batch(self, gen: Generation) -> None:
        """The batch's pictures are decoded and not yet finished."""
        self.plugins.after_batch(gen)
        self._tell("after_batch", gen)

    def before_step(self, gen: Generation) -> None:
        """A sampling step is about to begin."""
        self.plugins.before_step(gen)

    def after_step(self, gen: Generation) -> None:
        """A sampling step is done."""
        self.plugins.after_step(gen)

    @property
    def sees_guidance(self) -> bool:
        """Whether a plugin changes how the predictions of prompts are combined."""
        return bool(self.plugins.implemented("modify_guidance"))

    def modify_guidance(self, gen: Generation, x0: Tensor, cond: Tensor, uncond: Tensor | None) -> Tensor:
        """The guided prediction [B,C,h,w] after the changes of all plugins."""
        return self.plugins.modify_guidance(gen, x0, cond, uncond)

    def modify_noise(self, gen: Generation, noise: Tensor) -> Tensor:
        """The start noise of a pass after the changes of scripts."""
        for call in self.scripts:
            noise = self._call(call, "modify_noise", gen, noise, check=blame.like(noise))
        return noise

    def blend(
        self, gen: Generation, latent: Tensor, level: Tensor | None, start: Img2imgStart, *, final: bool
    ) -> Tensor | None:
        """The inpainting blend of ``latent`` with the original by a script, or None; of several the last counts."""
        chosen = None
        check = _or_none(blame.like(latent))
        for result in self._each("blend_mask", gen, MaskBlend(latent, level, start, final), check=check):
            chosen = chosen if result is None else result
        return chosen

    def after_sample(self, gen: Generation, latents: Tensor) -> Tensor:
        """The sampled latents [B,C,h,w] after the changes of plugins and scripts."""
        latents = self.plugins.after_sample(gen, latents)
        for call in self.scripts:
            latents = self._call(call, "after_sample", gen, latents, check=blame.like(latents))
        return latents

    def postprocess_image(self, gen: Generation, image: Image, index: int) -> Image:
        """Picture ``index`` of the batch after the changes of plugins and scripts."""
        image = self.plugins.postprocess_image(gen, image, index)
        for call in self.scripts:
            image = self._call(call, "postprocess_image", gen, image, index, check=blame.picture)
        return image

    def overlay(
        self, gen: Generation, index: int, overlay: Image | None, overlay_mask: Image | None
    ) -> tuple[Image | None, Image | None] | None:
        """(overlay, overlay mask) of a script for picture ``index``, which replace the core's, or None."""
        chosen = None
        for result in self._each("overlay", gen, index, check=_or_none(blame.overlay)):
            chosen = chosen if result is None else result
        return chosen

    def before_save(self, gen: Generation, image: Image, index: int, path: str) -> None:
        """A picture is about to be written to ``path``."""
        self.plugins.before_save(gen, image, index, path)

    def infotext(self, gen: Generation, index: int) -> dict[str, JsonValue]:
        """Further entries for the infotext of picture ``index``."""
        return self.plugins.infotext(gen, index)

    def images_done(self, gen: Generation, images: list[GeneratedImage]) -> None:
        """Call ``after_process`` of scripts with the finished list, which they may extend."""
        self._tell("after_process", gen, images)

    def after_process(self, gen: Generation, result: Result) -> None:
        """The job is done and its result is complete."""
        self.plugins.after_process(gen, result)
