"""What a detector finds, and how it chooses among overlapping boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """What was found, the surest first.

    ``boxes`` [n,4] left, top, right, bottom in pixels; ``scores`` [n]; ``landmarks`` [n,5,2] as x, y: left eye and
    right eye (in the picture), nose, left and right corner of the mouth.
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor


def suppress(boxes: Tensor, scores: Tensor, threshold: float, *, over_smaller: bool = False) -> Tensor:
    """Indices of the boxes that stay, the surest first: each drops those it overlaps by more than ``threshold``.

    :param over_smaller: measure the overlap by the smaller of two boxes, not by their union.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    order = scores.argsort(descending=True)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[order, :2])
        common = (torch.minimum(boxes[best, 2:], boxes[order, 2:]) - corner).clamp(min=0).prod(dim=1)
        smaller = torch.minimum(areas[best], areas[order])
        whole = smaller if over_smaller else areas[best] + areas[order] - common
        order = order[common <= threshold * whole]
    return torch.stack(kept) if kept else order
