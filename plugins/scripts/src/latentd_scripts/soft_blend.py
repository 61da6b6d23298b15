"""Soft inpainting's blend of two latents."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-5


def step_weights(share: Tensor, level: float, *, bias: float, strength: float) -> Tensor:
    """The weight of the prediction at this noise level: ``share ** (level ** bias * strength)``, in 0..1.

    :param share: the mask [.,1,h,w], 1 where everything is new.
    :param level: sigma, or the timestep.
    :param bias: "schedule bias" of the arguments.
    :param strength: "preservation strength" of the arguments.
    """
    weights: Tensor = share ** (level**bias * strength)
    return weights


def blend_latents(original: Tensor, new: Tensor, weights: Tensor, *, exponent: float) -> Tensor:
    """Latents [B,C,h,w] with the direction of the linear blend and the length of a power mean of both sides.

    Where the sides differ, a linear blend is shorter than either of them, which is visible as lost contrast.

    :param weights: the share of ``new``, [.,1,h,w].
    :param exponent: exponent of the mean; with larger ones it is nearer the longer side.
    """
    mixed = original * (1 - weights) + new * weights
    # With exponents of up to 32, values would leave the range of float32.
    length = _length(original) ** exponent * (1 - weights) + _length(new) ** exponent * weights
    return mixed * (length ** (1 / exponent) / (_length(mixed) + _TINY)).to(mixed.dtype)


def _length(latent: Tensor) -> Tensor:
    wide = torch.float32 if latent.device.type == "mps" else torch.float64
    length: Tensor = torch.linalg.vector_norm(latent, dim=1, keepdim=True).to(wide)
    return length
