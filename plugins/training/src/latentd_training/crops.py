"""How preparing pictures cuts them: split in two or more, about what stands out, or to the size that fits best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 16
"""Pixels a side of the blocks whose entropy is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusWeights:
    """How much edges and detail count for where a picture is cut."""

    edges: float = 0.5
    entropy: float = 0.15


def cover(picture: Image.Image, width: int, height: int) -> Image.Image:
    """``picture`` at ``width`` x ``height``: scaled to cover it, cut at the middle."""
    factor = max(width / picture.width, height / picture.height)
    size = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    scaled = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return scaled.crop((left, top, left + width, top + height))


def split(picture: Image.Image, width: int, height: int, *, threshold: float, overlap: float) -> list[Image.Image]:
    """Parts of ``width`` x ``height`` along the longer side, each over the next by ``overlap`` of its length at least.

    A picture that is not longer than ``threshold`` of the wanted proportion is only fitted.
    """
    wide = picture.width * height > picture.height * width
    ratio = (picture.height * width) / (picture.width * height)
    ratio = ratio if wide else 1 / ratio
    if ratio > threshold or ratio >= 1:
        return [cover(picture, width, height)]
    long = picture.width * height // picture.height if wide else picture.height * width // picture.width
    scaled = picture.resize((long, height) if wide else (width, long), Image.Resampling.LANCZOS)
    side = width if wide else height
    count = math.ceil((long - side * overlap) / (side * (1 - overlap)))
    step = (long - side) / max(1, count - 1)
    starts = [int(step * number) for number in range(count)]
    boxes = [(s, 0, s + width, height) if wide else (0, s, width, s + height) for s in starts]
    return [scaled.crop(box) for box in boxes]


def about_focus(picture: Image.Image, width: int, height: int, weights: FocusWeights) -> Image.Image:
    """``picture`` scaled to cover ``width`` x ``height`` and cut where most stands out, edges and detail weighed."""
    factor = max(width / picture.width, height / picture.height)
    size = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    scaled = picture.resize(size, Image.Resampling.LANCZOS)
    grey = np.asarray(scaled.convert("L"), dtype=np.float64)
    interest = weights.edges * _share(_edges(grey)) + weights.entropy * _share(_entropy(grey))
    if interest.sum() <= 0:
        return cover(picture, width, height)
    rows, columns = interest.sum(axis=1), interest.sum(axis=0)
    centre_y = float((rows * np.arange(len(rows))).sum() / rows.sum())
    centre_x = float((columns * np.arange(len(columns))).sum() / columns.sum())
    left = int(min(max(0.0, centre_x - width / 2), size[0] - width))
    top = int(min(max(0.0, centre_y - height / 2), size[1] - height))
    return scaled.crop((left, top, left + width, top + height))


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = np.gradient(grey)
    strength: NDArray[np.float64] = np.hypot(rows, columns)
    return strength


def _entropy(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entropy in bits of the levels in each block, over its pixels."""
    found = np.zeros_like(grey)
    for top in range(0, grey.shape[0], BLOCK):
        for left in range(0, grey.shape[1], BLOCK):
            block = grey[top : top + BLOCK, left : left + BLOCK]
            counts = np.bincount((block.ravel() / 16).astype(int), minlength=16)
            shares = counts[counts > 0] / counts.sum()
            found[top : top + BLOCK, left : left + BLOCK] = -(shares * np.log2(shares)).sum()
    return found


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = values.sum()
    return values / total if total > 0 else values


def best_size(
    picture: tuple[int, int], *, sides: tuple[int, int], areas: tuple[int, int], largest: bool, threshold: float
) -> tuple[int, int] | None:
    """The size of multiples of 64 within the bounds that is nearest to the picture's proportion; None for none.

    :param sides: least and greatest side. :param areas: least and greatest area in pixels.
    :param largest: among sizes within ``threshold`` of the proportion the largest counts, else the nearest.
    """
    steps = range(-(-sides[0] // 64) * 64, sides[1] + 1, 64)
    wanted = picture[0] / picture[1]
    rows: list[tuple[float, int, int]] = []
    for width in steps:
        for height in steps:
            ratio = wanted / (width / height)
            error = 1 - min(ratio, 1 / ratio)
            if areas[0] <= width * height <= areas[1] and error < threshold:
                rows.append((error, width, height))
    if not rows:
        return None
    by_area = [(-w * h, error, w, h) for error, w, h in rows]
    by_error = [(error, -w * h, w, h) for error, w, h in rows]
    _, _, width, height = min(by_area) if largest else min(by_error)
    return width, height
