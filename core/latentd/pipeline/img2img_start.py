"""What every batch of an img2img job starts from, and one blend of it with what is painted: values."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from latentd.pipeline.img2img_init import Img2imgInit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Img2imgStart:
    """The latents that every batch of one img2img job starts from.

    ``latent`` [B,4,h,w]; ``mask`` and ``nmask`` [1,1,h,w] (1 keeps, 1 repaints) or None; ``concat`` as the model wants.
    """

    init: Img2imgInit
    latent: Tensor
    mask: Tensor | None
    nmask: Tensor | None
    concat: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class MaskBlend:
    """One inpainting blend of ``latent`` [B,4,h,w] with the original.

    ``level`` [B] is the sigma, or with timestep samplers the timestep; None at the end (``final``). ``start`` has the
    original ``latent`` and the masks.
    """

    latent: Tensor
    level: Tensor | None
    start: Img2imgStart
    final: bool
