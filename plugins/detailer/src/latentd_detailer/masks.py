"""From what a detector has found to the masks of regions: choosing, ordering, moving, growing, joining."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from latentd.api import Detection
from latentd_detailer.options import SORTED
from latentd_detailer.unit import INVERTED, NONE, Unit

Box = tuple[float, float, float, float]
Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Region:
    """Where to repaint: a mask in mode L of the picture's size, and the box of what was found; None if joined."""

    mask: Image.Image
    box: Box | None


def chosen(found: Sequence[Detection], unit: Unit, size: tuple[int, int], order: str) -> list[Detection]:
    """What of ``found`` the unit wants, in the order in which it is repainted.

    :param size: width and height of the picture.
    :param order: option ``ad_bbox_sortby``.
    """
    whole = size[0] * size[1]
    kept = [one for one in found if unit.ad_mask_min_ratio <= area(one.box) / whole <= unit.ad_mask_max_ratio]
    if unit.ad_mask_k:
        by_area = unit.ad_mask_filter_method == "Area"
        kept = sorted(kept, key=lambda one: area(one.box) if by_area else one.score, reverse=True)[: unit.ad_mask_k]
    if order == SORTED[1]:
        kept = sorted(kept, key=lambda one: one.box[0])
    elif order == SORTED[2]:
        kept = sorted(kept, key=lambda one: math.dist(_centre(one.box), (size[0] / 2, size[1] / 2)))
    elif order == SORTED[3]:
        kept = sorted(kept, key=lambda one: -area(one.box))
    return kept


def regions(found: Sequence[Detection], unit: Unit, size: tuple[int, int]) -> list[Region]:
    """The regions to repaint, without those whose masks have shrunk to nothing."""
    made = [Region(mask_of(one, size), one.box) for one in found]
    if unit.ad_x_offset or unit.ad_y_offset:
        made = [Region(ImageChops.offset(one.mask, unit.ad_x_offset, -unit.ad_y_offset), one.box) for one in made]
    if unit.ad_dilate_erode:
        made = [Region(grown(one.mask, unit.ad_dilate_erode), one.box) for one in made]
        made = [one for one in made if one.mask.getbbox() is not None]
    if unit.ad_mask_merge_invert == NONE or not made:
        return made
    joined = made[0].mask
    for one in made[1:]:
        joined = ImageChops.lighter(joined, one.mask)
    return [Region(ImageChops.invert(joined) if unit.ad_mask_merge_invert == INVERTED else joined, None)]


def mask_of(one: Detection, size: tuple[int, int]) -> Image.Image:
    """The mask of what was found: its own, else its box."""
    if one.mask is not None:
        return one.mask if one.mask.size == size else one.mask.resize(size, Image.Resampling.BILINEAR)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(one.box, fill=255)
    return mask


def grown(mask: Image.Image, pixels: int) -> Image.Image:
    """``mask`` grown by a square of ``pixels``, or shrunk by one if negative; as OpenCV's dilate and erode.

    What lies beyond the picture's edge changes nothing. A square of an even side reaches one pixel further to the left
    and the top.
    """
    values: Mask = np.asarray(mask.convert("L"))
    side = abs(pixels)
    before, after = side // 2, side - 1 - side // 2
    # Shrinking what is white is growing what is black.
    values = values if pixels > 0 else 255 - values
    for axis in (0, 1):
        values = _highest(values, before, after, axis)
    return Image.fromarray(values if pixels > 0 else 255 - values)


def _highest(values: Mask, before: int, after: int, axis: int) -> Mask:
    """The highest value from ``before`` cells before each to ``after`` behind it; a window doubles until it is full."""
    length = values.shape[axis]
    before, after = min(before, length), min(after, length)
    edges = [(0, 0), (0, 0)]
    edges[axis] = (before, after)
    padded = np.moveaxis(np.pad(values, edges), axis, 0)
    window, width = padded, 1
    while width < before + after + 1:
        step = min(width, before + after + 1 - width)
        window = np.maximum(window[: len(window) - step], window[step:])
        width += step
    return np.ascontiguousarray(np.moveaxis(window, 0, axis))


def area(box: Box) -> float:
    """The box's area in pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def touches(mask: Image.Image, other: Image.Image) -> bool:
    """Whether both masks are white at some place; ``other`` is stretched to the size of ``mask``."""
    if other.size != mask.size:
        other = other.resize(mask.size, Image.Resampling.LANCZOS)
    return bool((np.asarray(mask.convert("L")) & np.asarray(other.convert("L"))).any())
