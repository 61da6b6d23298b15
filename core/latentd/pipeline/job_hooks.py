"""The hooks of one job: those of every plugin, then the methods of the job's always-on scripts, in one face."""

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
    """What a method returns that is called for what it does."""


def _or_none(check: Check[R]) -> Check[R | None]:
    return lambda value: None if value is None else check(value)


def script_place(script: AnyScript, method: str) -> str:
    """How an error names one method of a script."""
    return f"script {script.title!r}, {method}"


class JobHooks:
    """Calls plugins and scripts; an exception fails the job with the plugin or script named.

    :param plugins: the host's typed calls. :param scripts: the job's always-on scripts with their arguments.
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
        """What the script's method gives, through ``check``."""
        with blamed(owner_of(gen.services.registry.scripts, call.script.title), script_place(call.script, method)):
            return check(getattr(call.script, method)(gen, call.args, *arguments))

    def before_process(self, gen: Generation) -> None:
        self.plugins.before_process(gen)
        self._tell("before_process", gen)

    def unet_hooks(self, gen: Generation) -> list[UNetHook]:
        found = list(self.plugins.unet_hooks(gen))
        for call in self.scripts:
            for hook in self._call(call, "unet_hooks", gen, check=blame.hooks):
                hook.owner = owner_of(gen.services.registry.scripts, call.script.title)
                found.append(hook)
        return found

    def modify_conditioning(self, gen: Generation) -> None:
        self.plugins.modify_conditioning(gen)
        self._tell("modify_conditioning", gen)

    def before_batch(self, gen: Generation) -> None:
        self.plugins.before_batch(gen)
        self._tell("before_batch", gen)

    def after_batch(self, gen: Generation) -> None:
        self.plugins.after_batch(gen)
        self._tell("after_batch", gen)

    def before_step(self, gen: Generation) -> None:
        self.plugins.before_step(gen)

    def after_step(self, gen: Generation) -> None:
        self.plugins.after_step(gen)

    @property
    def sees_guidance(self) -> bool:
        """Whether a plugin takes part in combining the prompts' predictions."""
        return bool(self.plugins.implemented("modify_guidance"))

    def modify_guidance(self, gen: Generation, x0: Tensor, cond: Tensor, uncond: Tensor | None) -> Tensor:
        return self.plugins.modify_guidance(gen, x0, cond, uncond)

    def modify_noise(self, gen: Generation, noise: Tensor) -> Tensor:
        """The noise that a pass starts with, as the job's scripts leave it."""
        for call in self.scripts:
            noise = self._call(call, "modify_noise", gen, noise, check=blame.like(noise))
        return noise

    def blend(
        self, gen: Generation, latent: Tensor, level: Tensor | None, start: Img2imgStart, *, final: bool
    ) -> Tensor | None:
        """A script's own inpainting blend of ``latent`` with the original, or None; the last to give one wins."""
        chosen = None
        check = _or_none(blame.like(latent))
        for result in self._each("blend_mask", gen, MaskBlend(latent, level, start, final), check=check):
            chosen = chosen if result is None else result
        return chosen

    def after_sample(self, gen: Generation, latents: Tensor) -> Tensor:
        latents = self.plugins.after_sample(gen, latents)
        for call in self.scripts:
            latents = self._call(call, "after_sample", gen, latents, check=blame.like(latents))
        return latents

    def postprocess_image(self, gen: Generation, image: Image, index: int) -> Image:
        image = self.plugins.postprocess_image(gen, image, index)
        for call in self.scripts:
            image = self._call(call, "postprocess_image", gen, image, index, check=blame.picture)
        return image

    def overlay(
        self, gen: Generation, index: int, overlay: Image | None, overlay_mask: Image | None
    ) -> tuple[Image | None, Image | None] | None:
        """A script's (overlay, overlay mask) for picture ``index`` in place of the core's, or None."""
        chosen = None
        for result in self._each("overlay", gen, index, check=_or_none(blame.overlay)):
            chosen = chosen if result is None else result
        return chosen

    def before_save(self, gen: Generation, image: Image, index: int, path: str) -> None:
        self.plugins.before_save(gen, image, index, path)

    def infotext(self, gen: Generation, index: int) -> dict[str, JsonValue]:
        return self.plugins.infotext(gen, index)

    def images_done(self, gen: Generation, images: list[GeneratedImage]) -> None:
        """Scripts see the finished list and may append to it."""
        self._tell("after_process", gen, images)

    def after_process(self, gen: Generation, result: Result) -> None:
        self.plugins.after_process(gen, result)
