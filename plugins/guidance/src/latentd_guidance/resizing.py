"""Resizing of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def resize_features(features: Tensor, size: Sequence[int], method: str) -> Tensor:
    """``features`` [B,C,h,w] at ``size`` (height, width) by torch's ``method``, or ``bislerp``."""
    import torch.nn.functional as F

    if method == "bislerp":
        return _slerp_along(_slerp_along(features, size[0], dim=2), size[1], dim=3)
    return F.interpolate(features.float(), size=list(size), mode=method).to(features.dtype)


def _slerp_along(features: Tensor, size: int, dim: int) -> Tensor:
    """Interpolate along ``dim``: directions of neighbours on the arc between them, their lengths linearly."""
    import torch

    x = features.float()
    count = x.shape[dim]
    places = ((torch.arange(size, device=x.device) + 0.5) * count / size - 0.5).clamp(0, count - 1)
    first = places.floor().long()
    second = (first + 1).clamp(max=count - 1)
    share = (places - first).reshape([-1 if axis == dim else 1 for axis in range(4)])
    a, b = x.index_select(dim, first), x.index_select(dim, second)
    return _slerp(a, b, share).to(features.dtype)


def _slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    import torch

    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    tiny = torch.finfo(a.dtype).tiny
    unit_a, unit_b = a / length_a.clamp_min(tiny), b / length_b.clamp_min(tiny)
    cosine = (unit_a * unit_b).sum(dim=1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    # Directions that are the same, or opposite, define no arc between them.
    straight = cosine.abs() > 1 - 1e-5
    safe = torch.where(straight, torch.ones_like(sine), sine)
    arc = (torch.sin((1 - share) * angle) * unit_a + torch.sin(share * angle) * unit_b) / safe
    mixed: Tensor = torch.where(straight, unit_a * (1 - share) + unit_b * share, arc)
    lengths: Tensor = length_a * (1 - share) + length_b * share
    return mixed * lengths
