"""The foreground's own colours (Germer, Uelwer, Conrad and Harmeling 2020, Fast Multi-Level Foreground Estimation).

Foreground F and background B of each pixel explain its colour, ``alpha F + (1 - alpha) B``, and are like their
neighbours', most of all where alpha does not change. Both are found at 1x1 first, and then at growing sizes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""[h,w] or, with colours, [h,w,3]."""
REGULARISATION = 1e-5
GRADIENT_WEIGHT = 1.0
SMALL, SMALL_ROUNDS, ROUNDS = 32, 10, 2
"""Levels of at most SMALL pixels a side take SMALL_ROUNDS rounds, larger ones ROUNDS."""


def estimate_foreground(image: NDArray[np.float64], alpha: NDArray[np.float64]) -> Plane:
    """The foreground's colours [h,w,3] for ``image`` [h,w,3] and ``alpha`` [h,w], all from 0 to 1."""
    colours: Plane = image.astype(np.float32)
    opacity: Plane = alpha.astype(np.float32)
    height, width = opacity.shape
    front = _mean_colour(colours, opacity > 0.9)
    back = _mean_colour(colours, opacity < 0.1)
    levels = math.ceil(math.log2(max(height, width, 2)))
    for level in range(levels + 1):
        size = (round(height ** (level / levels)), round(width ** (level / levels)))
        front, back = _resized(front, size), _resized(back, size)
        small_colours, small_opacity = _resized(colours, size), _resized(opacity, size)
        for _ in range(SMALL_ROUNDS if max(size) <= SMALL else ROUNDS):
            front, back = one_round(small_colours, small_opacity, front, back)
    return front


def _mean_colour(image: Plane, where: np.ndarray) -> Plane:
    chosen = image[where]
    colour: Plane = np.zeros((1, 1, 3), np.float32)
    if len(chosen):
        colour[0, 0] = chosen.mean(axis=0)
    return colour


def _resized(plane: Plane, size: tuple[int, int]) -> Plane:
    """``plane`` at another size, by the nearest pixel."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, plane.shape[:2], strict=True))
    found: Plane = plane[rows][:, columns]
    return found


def one_round(image: Plane, alpha: Plane, front: Plane, back: Plane) -> tuple[Plane, Plane]:
    """F and B that fit each pixel best, given those of its neighbours: two equations a pixel and colour."""
    weights = np.zeros_like(alpha)
    fronts, backs = np.zeros_like(front), np.zeros_like(back)
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        change = np.abs(alpha - _neighbour(alpha, axis, shift))
        weight = REGULARISATION + GRADIENT_WEIGHT * change
        weights += weight
        fronts += weight[..., None] * _neighbour(front, axis, shift)
        backs += weight[..., None] * _neighbour(back, axis, shift)
    # Cramer's rule, with the terms that cancel left out: both sides are of the order of the weights.
    a, b, w = alpha[..., None], 1 - alpha[..., None], weights[..., None]
    apart = b * fronts - a * backs
    determinant = w * (a * a + b * b + w)
    front_now = (b * apart + w * (a * image + fronts)) / determinant
    back_now = (w * (b * image + backs) - a * apart) / determinant
    return np.clip(front_now, 0, 1), np.clip(back_now, 0, 1)


def _neighbour(plane: Plane, axis: int, shift: int) -> Plane:
    """The next pixel's value in one direction; at the edge the pixel's own."""
    moved = np.roll(plane, shift, axis=axis)
    edge = [slice(None), slice(None)]
    edge[axis] = slice(0, 1) if shift > 0 else slice(-1, None)
    moved[tuple(edge)] = plane[tuple(edge)]
    return moved
