"""A picture without its background, cut out by a mask or by alpha matting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentd_rembg.foreground import estimate_foreground
from latentd_rembg.matting import estimate_alpha

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matting:
    """Where a mask is sure: above ``foreground``, below ``background`` (of 255), ``erode`` pixels from its edges."""

    foreground: int = 240
    background: int = 10
    erode: int = 10


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """``image`` in RGBA, every channel in proportion to ``mask`` (mode L), as rembg does it."""
    return Image.composite(image.convert("RGBA"), Image.new("RGBA", image.size), mask)


def matte(
    image: Image.Image, mask: Image.Image, matting: Matting, check: Callable[[], None] = lambda: None
) -> Image.Image | None:
    """``image`` in RGBA with the foreground's own colours, its opacity estimated where ``mask`` is unsure.

    None where nothing is sure to be foreground, or nothing background: there is nothing to estimate from.
    """
    trimap = trimap_of(np.asarray(mask), matting)
    if not (trimap == 1).any() or not (trimap == 0).any():
        return None
    colours = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    alpha = estimate_alpha(colours, trimap, check)
    check()
    front = estimate_foreground(colours, alpha)
    cut = np.concatenate([front, alpha[..., None]], axis=2)
    return Image.fromarray(np.clip(cut * 255, 0, 255).astype(np.uint8))


def trimap_of(mask: NDArray[np.uint8], matting: Matting) -> NDArray[np.float64]:
    """1 where foreground is sure, 0 where background is, 0.5 between; [h,w].

    Beyond the picture's edge nothing is foreground, and all is background.
    """
    trimap = np.full(mask.shape, 0.5)
    trimap[eroded(mask > matting.foreground, matting.erode, outside=False)] = 1
    trimap[eroded(mask < matting.background, matting.erode, outside=True)] = 0
    return trimap


def eroded(mask: Mask, size: int, *, outside: bool) -> Mask:
    """Where all of the square of ``size`` pixels around a pixel is in ``mask``; with size 0, all of the cross of 5.

    A square of even size reaches one pixel further to the left and the top.

    :param outside: whether what lies beyond the edges counts as in the mask.
    """
    if size <= 0:
        around = np.pad(mask, 1, constant_values=outside)
        cross = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        return np.asarray(cross & mask)
    before = size // 2
    out = np.pad(~mask, (before, size - 1 - before), constant_values=not outside)
    # The number of pixels that are not in it, in each square, from sums of all above and to the left.
    sums = np.pad(out, ((1, 0), (1, 0))).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    missing = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(missing == 0)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """The pictures, of one width, under one another in RGBA; a single one as it is."""
    if len(pictures) == 1:
        return pictures[0]
    sheet = Image.new("RGBA", (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
