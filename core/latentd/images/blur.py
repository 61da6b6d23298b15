"""Gaussian blur of 8-bit pictures, one axis at a time, in OpenCV's fixed-point arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

_FRACTION = 256
"""Kernel weights are 8-bit fractions and sum to exactly this."""


def gaussian_kernel(size: int, sigma: float) -> NDArray[np.int64]:
    """The 1-D Gaussian of odd ``size`` in 1/256 units, summing to 256.

    Rounding errors are carried from the tails towards the centre, and the centre takes what is left, as OpenCV does it
    for 8-bit pictures. With plain rounding, flat regions would drift by a level.
    """
    offsets = np.arange(size, dtype=np.float64) - (size - 1) / 2
    exact = np.exp(-(offsets**2) / (2.0 * sigma * sigma))
    exact /= exact.sum()
    weights = np.zeros(size, dtype=np.int64)
    half = size // 2
    error = 0.0
    for i in range(half):
        wanted = exact[i] * _FRACTION + error
        weights[i] = weights[size - 1 - i] = round(wanted)
        error = wanted - weights[i]
    weights[half] = _FRACTION - 2 * int(weights[:half].sum())
    return weights


def blur_axis(pixels: U8, *, sigma: float, axis: int, size: int) -> U8:
    """``pixels`` (any shape, uint8) convolved along ``axis`` with a Gaussian; the border mirrors without repeating.

    :param size: odd kernel width in pixels.
    """
    weights = gaussian_kernel(size, sigma)
    length = pixels.shape[axis]
    source = mirrored_indices(length, size // 2)
    total = np.zeros(pixels.shape, dtype=np.int64)
    for k, weight in enumerate(weights):
        if weight:
            total += weight * np.take(pixels, source[k : k + length], axis=axis)
    return ((total + _FRACTION // 2) // _FRACTION).astype(np.uint8)


def mirrored_indices(length: int, pad: int) -> NDArray[np.int64]:
    """Indices ``-pad … length+pad-1`` folded back into ``0 … length-1`` about the edge pixels."""
    positions = np.arange(-pad, length + pad)
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = np.abs(positions) % period
    return np.where(folded < length, folded, period - folded)
