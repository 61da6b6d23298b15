"""How far a picture grows in each direction, so that its sides become multiples of 64."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Direction = Literal["left", "right", "up", "down"]
DIRECTIONS: tuple[Direction, ...] = ("left", "right", "up", "down")
_MULTIPLE = 64


def round_up(length: int) -> int:
    """The next multiple of 64."""
    return math.ceil(length / _MULTIPLE) * _MULTIPLE


@dataclass(frozen=True, slots=True)
class Growth:
    """Pixels added on each side."""

    left: int
    right: int
    up: int
    down: int

    @classmethod
    def of(cls, size: tuple[int, int], pixels: int, directions: Collection[str]) -> Growth:
        """The growth by about ``pixels`` in ``directions``; opposite sides share what rounding adds."""
        left, right, up, down = (pixels if name in directions else 0 for name in DIRECTIONS)
        left, right = _shared(size[0], left, right)
        up, down = _shared(size[1], up, down)
        return cls(left, right, up, down)


def _shared(length: int, before: int, after: int) -> tuple[int, int]:
    added = round_up(length + before + after) - length
    if before > 0:
        before = before * added // (before + after)
    return before, added - before if after > 0 else after
