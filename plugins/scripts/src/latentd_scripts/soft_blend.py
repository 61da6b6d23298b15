"""Soft inpainting's blend of two latents."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-5


def step_weights(share: Tensor, level: float, *, bias: float, strength: float) -> Tensor:
    """How much of the prediction counts at this noise level: ``share ** (level ** bias * strength)``, in 0..1.

    :param share: the mask [.,1,h,w], 1 where everything is new. :param level: sigma, or the timestep.
    """
    return share ** (level**bias * strength)


def blend_latents(original: Tensor, new: Tensor, weights: Tensor, *, exponent: float) -> Tensor:
    """Latents [B,C,h,w] that point where the linear blend points, and are as long as a power mean of both.

    A linear blend alone is shorter than either side where they differ, which shows as lost contrast.

    :param weights: the share of ``new``, [.,1,h,w].
    :param exponent: of the mean; the larger, the nearer the longer one.
    """
    mixed = original * (1 - weights) + new * weights
    # Exponents of up to 32 leave float32's range.
    length = _length(original) ** exponent * (1 - weights) + _length(new) ** exponent * weights
    return mixed * (length ** (1 / exponent) / (_length(mixed) + _TINY)).to(mixed.dtype)


def _length(latent: Tensor) -> Tensor:
    wide = torch.float32 if latent.device.type == "mps" else torch.float64
    return torch.linalg.vector_norm(latent, dim=1, keepdim=True).to(wide)
