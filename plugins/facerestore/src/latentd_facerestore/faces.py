"""The faces that a detector finds, and the choice among overlapping boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """The faces that were found, by descending score.

    ``boxes`` [n,4] left, top, right, bottom in pixels; ``scores`` [n]; ``landmarks`` [n,5,2] as x, y: left eye and
    right eye (in the picture), nose, left and right corner of the mouth.
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor


def suppress(boxes: Tensor, scores: Tensor, threshold: float, *, over_smaller: bool = False) -> Tensor:
    """Indices of the boxes that remain, by descending score, without boxes that a better one overlaps too much.

    :param threshold: the overlap from which a box is dropped, 0 to 1.
    :param over_smaller: whether the overlap is a share of the smaller box rather than of the union of both.
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
