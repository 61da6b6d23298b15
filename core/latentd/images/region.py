"""The part of a picture that "only masked" inpainting works on (rules: a1111-mask)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; ``left`` and ``top`` belong to it, ``right`` and ``bottom`` are just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    def as_tuple(self) -> tuple[int, int, int, int]:
        """``(left, top, right, bottom)``, as Pillow's ``crop`` takes it."""
        return self.left, self.top, self.right, self.bottom


def masked_box(mask: Image.Image, padding: int = 0) -> Box | None:
    """The bounding box of the mask's non-zero pixels, grown by ``padding`` within the picture; None if all is black."""
    lit = np.asarray(mask.convert("L")) > 0
    columns, rows = np.flatnonzero(lit.any(axis=0)), np.flatnonzero(lit.any(axis=1))
    if not columns.size:
        return None
    return Box(
        max(int(columns[0]) - padding, 0),
        max(int(rows[0]) - padding, 0),
        min(int(columns[-1]) + 1 + padding, mask.width),
        min(int(rows[-1]) + 1 + padding, mask.height),
    )


def expand_box(box: Box, width: int, height: int, within: tuple[int, int]) -> Box:
    """``box`` grown to the aspect ratio of ``width`` x ``height``, then moved and if need be cut to lie ``within``.

    :param within: width and height of the picture.
    """
    target = width / height
    if box.width / box.height > target:
        top, bottom = _grown(box.top, box.bottom, box.width / target, within[1])
        return Box(box.left, top, box.right, bottom)
    left, right = _grown(box.left, box.right, box.height * target, within[0])
    return Box(left, box.top, right, box.bottom)


def _grown(start: int, end: int, wanted: float, limit: int) -> tuple[int, int]:
    extra = int(wanted - (end - start))
    start -= extra // 2
    end += extra - extra // 2
    if end > limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, end - start
    return start, min(end, limit)
