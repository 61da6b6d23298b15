"""Lines made one pixel wide: non-maximum suppression and thinning by hit-or-miss patterns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentd_controlnet.preprocessors.pixels import Array, Pixels

Pattern = tuple[tuple[int, ...], ...]
MAX_ROUNDS = 32
# Rows of a 3x3 neighbourhood: 1 is set, -1 is clear, 0 is either. Classical thinning removes border pixels that match
# one of these two patterns in one of four rotations.
_EDGES = (((-1, -1, -1), (0, 1, 0), (1, 1, 1)), ((0, -1, -1), (1, 1, -1), (0, 1, 0)))
# Ends of stray branches.
_ENDS = (((-1, -1, -1), (-1, 1, -1), (0, 0, -1)), ((-1, -1, -1), (-1, 1, -1), (-1, 0, 0)))
_DIRECTIONS = (
    ((0, 0, 0), (1, 1, 1), (0, 0, 0)),
    ((0, 1, 0), (0, 1, 0), (0, 1, 0)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
)


def suppress_non_maxima(image: Array) -> Array:
    """``image`` [h,w] where it is the largest along at least one of four directions, else 0."""
    import cv2

    result = np.zeros_like(image)
    for direction in _DIRECTIONS:
        largest = cv2.dilate(image, kernel=np.array(direction, np.uint8)) == image
        result[largest] = image[largest]
    return result


def thin(image: Pixels, *, prune: bool) -> Pixels:
    """A binary ``image`` [h,w] with its lines one pixel wide; ``prune`` also removes the last pixels of branches."""
    result = image.copy()
    for _ in range(MAX_ROUNDS):
        if not _remove(result, _rotated(_EDGES)):
            break
    if prune:
        _remove(result, _rotated(_ENDS))
    return result


def _rotated(patterns: Sequence[Pattern]) -> list[NDArray[np.int32]]:
    arrays = [np.array(pattern, np.int32) for pattern in patterns]
    return [np.rot90(array, turn) for turn in range(4) for array in arrays]


def _remove(image: Pixels, patterns: Sequence[NDArray[np.int32]]) -> bool:
    """Clear the pixels of ``image`` that match a pattern, pattern by pattern; returns whether there were any."""
    import cv2

    changed = False
    for pattern in patterns:
        found = cv2.morphologyEx(image, cv2.MORPH_HITMISS, np.ascontiguousarray(pattern)) > 127
        if found.any():
            image[found] = 0
            changed = True
    return changed
