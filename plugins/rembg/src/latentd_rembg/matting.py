"""Closed-form matting (Levin, Lischinski and Weiss 2008, A Closed-Form Solution to Natural Image Matting).

The matting Laplacian is a sum over windows of 3x3 pixels. Only those that hold an unknown pixel count, and its product
with a plane is taken window by window, without building the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float64]
"""[h,w] or, with colours, [h,w,3]."""
Flat = NDArray[np.float64]
"""A plane's values, row after row."""
WINDOW = 9
"""Pixels of a window."""
EPSILON = 1e-7
TOLERANCE = 1e-5
"""Length of the rest, as a share of the right side's, at which the solution is taken."""
MOST_STEPS = 500
MOST_UNKNOWN = 200_000
"""Unknown pixels that are solved for; where there are more, the solution is that at half the size, enlarged.

Each takes about a kilobyte.
"""
COARSEST = 64
"""A picture of at most this side is solved at once, a larger one from the solution at half its size."""


def _nothing() -> None:
    pass


def estimate_alpha(image: Plane, trimap: Plane, check: Callable[[], None] = _nothing) -> Plane:
    """The opacity [h,w] of the foreground, from 0 to 1.

    :param image: [h,w,3], 0 to 1. :param trimap: [h,w]: 1 and 0 where it is known, anything between where it is not.
    :param check: called between the steps of the solution; raises to stop it.
    """
    alpha = trimap.astype(np.float64)
    unknown = (trimap > 0) & (trimap < 1)
    if not unknown.any() or min(trimap.shape) < 3:
        return alpha
    alpha[unknown] = 0.5
    if max(trimap.shape) > COARSEST and min(trimap.shape) >= 6:
        half = estimate_alpha(image[::2, ::2], trimap[::2, ::2], check)
        alpha[unknown] = _enlarged(half, trimap.shape)[unknown]
    places = np.flatnonzero(unknown)
    if len(places) > MOST_UNKNOWN:
        return alpha
    found = alpha.ravel()
    found[places] = np.clip(_solve(Laplacian.of(image, unknown), found, places, check), 0, 1)
    return found.reshape(trimap.shape)


def _enlarged(plane: Plane, shape: tuple[int, ...]) -> Plane:
    picture = Image.fromarray(plane.astype(np.float32)).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Laplacian:
    """The part of a picture's matting Laplacian L that concerns its unknown pixels.

    :ivar pixels: [9,windows]: the places in a plane's values of each window's pixels.
    :ivar spread: [3,9,windows]: each window's colours without their mean, turned so that the plane's best fit in a
        window by an affine function of the colour is ``mean + spread (spread . plane)``.
    """

    pixels: NDArray[np.int64]
    spread: NDArray[np.float64]
    size: int

    @classmethod
    def of(cls, image: Plane, unknown: NDArray[np.bool_]) -> Laplacian:
        """The windows of ``image`` [h,w,3], at least 3 pixels high and wide, that hold a pixel of ``unknown`` [h,w]."""
        height, width = unknown.shape
        corners = [(y, x) for y in range(3) for x in range(3)]
        held = np.zeros((height - 2, width - 2), dtype=bool)
        for y, x in corners:
            held |= unknown[y : height - 2 + y, x : width - 2 + x]
        tops, lefts = np.nonzero(held)
        pixels = np.stack([(tops + y) * width + lefts + x for y, x in corners])
        colours = image.reshape(-1, 3)[pixels]
        off = colours - colours.mean(axis=0)
        covariance = np.einsum("jki,jkl->kil", off, off) / WINDOW
        inverse = np.linalg.inv(covariance + np.eye(3) * (EPSILON / WINDOW))
        half = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2)
        spread = np.ascontiguousarray(np.einsum("jki,kic->cjk", off, half) / np.sqrt(WINDOW))
        return cls(pixels, spread, height * width)

    def times(self, values: Flat) -> Flat:
        """L @ ``values``: how far each pixel is from its windows' fits."""
        inside = values[self.pixels]
        weights = np.einsum("cjk,jk->ck", self.spread, inside)
        rest = inside - inside.mean(axis=0) - np.einsum("cjk,ck->jk", self.spread, weights)
        return self._gathered(rest)

    def diagonal(self) -> Flat:
        """The entries of L on its diagonal."""
        return self._gathered(1 - 1 / WINDOW - np.einsum("cjk,cjk->jk", self.spread, self.spread))

    def _gathered(self, inside: Plane) -> Flat:
        total = np.zeros(self.size)
        for places, values in zip(self.pixels, inside, strict=True):
            total[places] += values  # no two windows have one pixel in the same corner
        return total


def _solve(laplacian: Laplacian, start: Flat, places: NDArray[np.int64], check: Callable[[], None]) -> Flat:
    """The values at ``places`` for which L @ values is 0 there, those elsewhere being as in ``start``.

    By conjugate gradients, preconditioned by the diagonal.
    """
    given = start.copy()
    given[places] = 0
    scale = np.maximum(laplacian.diagonal()[places], 1e-12)
    plane = np.zeros_like(start)

    def times(values: Flat) -> Flat:
        plane[places] = values
        return laplacian.times(plane)[places]

    target = -laplacian.times(given)[places]
    found = start[places]
    residual = target - times(found)
    direction = scaled = residual / scale
    fall = float(residual @ scaled)
    enough = TOLERANCE**2 * max(float(target @ target), 1e-30)
    for _ in range(MOST_STEPS):
        if float(residual @ residual) <= enough:
            break
        check()
        turned = times(direction)
        step = fall / max(float(direction @ turned), 1e-300)
        found = found + step * direction
        residual = residual - step * turned
        scaled = residual / scale
        fall, before = float(residual @ scaled), fall
        direction = scaled + (fall / max(before, 1e-300)) * direction
    return found
