"""The always-on script ``Soft Inpainting``: the greys of a mask decide how much of the original stays.

At every step the prediction and the original are blended by a weight that follows the mask and the noise level. When
sampling is done, the original's pixels are laid over the picture where little has changed. Rules: a1111-scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from latentd.api import Generation, GenerationRequest, JsonValue, MaskBlend, Mode, Plan, Planned, RawArgs, Services
from latentd_scripts.arguments import FormScript, Number
from latentd_scripts.soft_arguments import SoftInpaintingArgs

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_OVERLAYS = "soft_inpainting"
_PREFIX = "Soft inpainting "


_SETTINGS = [name for name in SoftInpaintingArgs.model_fields if name != "enabled"]


def _noted() -> dict[str, JsonValue]:
    """Infotext key → default of each setting, in their order."""
    fields = [SoftInpaintingArgs.model_fields[name] for name in _SETTINGS]
    return {_PREFIX + str(field.title).lower(): field.default for field in fields}


def _number(text: JsonValue, default: Number) -> Number:
    for kind in (int, float):
        with suppress(TypeError, ValueError):
            return kind(text)
    return default


class SoftInpainting(FormScript[SoftInpaintingArgs]):
    """Inpainting without hard seams."""

    title = "Soft Inpainting"
    modes = ("img2img",)
    alwayson = True
    Args = SoftInpaintingArgs

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> SoftInpaintingArgs | None:
        """The arguments; None if there is no mask, or if it is switched off."""
        parsed = super().parse_args(args, request)
        return parsed if parsed is not None and parsed.enabled and request.mask is not None else None

    def from_infotext(self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode) -> list[JsonValue] | None:
        """The arguments that :meth:`before_process` has written, if the request gives none."""
        if args is not None or entries.get(_PREFIX + "enabled") != "True":
            return None
        return [True, *(_number(entries.get(key), default) for key, default in _noted().items())]

    def plan(self, plan: Plan, args: SoftInpaintingArgs, services: Services) -> Planned[SoftInpaintingArgs]:
        """The plan with the mask's greys kept in the latent."""
        return Planned(plan=plan.with_changes(request=replace(plan.request, mask_round=False)))

    def before_process(self, generation: Generation, args: SoftInpaintingArgs) -> None:
        """Write the settings into the infotext."""
        generation.infotext[_PREFIX + "enabled"] = True
        for name, key in zip(_SETTINGS, _noted(), strict=True):
            generation.infotext[key] = getattr(args, name)

    def blend_mask(self, generation: Generation, args: SoftInpaintingArgs, blend: MaskBlend) -> Tensor:
        """The latents of original and prediction, blended by this step's weights; the sampled latent at the end."""
        from latentd_scripts.soft_blend import blend_latents, step_weights

        share = blend.start.nmask
        if blend.level is None or share is None:
            return blend.latent
        weights = step_weights(
            share, float(blend.level[0]), bias=args.schedule_bias, strength=args.preservation_strength
        )
        original = blend.start.latent[: blend.latent.shape[0]]
        return blend_latents(original, blend.latent, weights, exponent=args.transition_contrast)

    def after_sample(self, generation: Generation, args: SoftInpaintingArgs, latents: Tensor) -> Tensor:
        """Make the overlays from the change in each part of the latent."""
        from latentd_scripts.soft_overlay import make_overlays

        start = generation.img2img
        if start is not None and start.nmask is not None:
            generation.state[_OVERLAYS] = make_overlays(generation, args, start, start.nmask, latents)
        return latents

    def overlay(self, generation: Generation, args: SoftInpaintingArgs, index: int) -> tuple[Image, Image] | None:
        """The original of one picture, transparent where it is new, and its mask."""
        overlays = generation.state.get(_OVERLAYS, [])
        return overlays[index] if index < len(overlays) else None
