"""A filter between median and maximum: the mean of some of the sorted, weighted neighbours of each cell."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def radial_kernel(*, reach: float, radius: int) -> F64:
    """Weights [2*radius+1, 2*radius+1] that fall off as ``exp(-(d/reach)^2)``, from 1 to 0 at ``radius + 1``."""
    away = np.arange(-radius, radius + 1, dtype=np.float64)
    square = away[:, None] ** 2 + away[None, :] ** 2
    floor = math.exp(-((radius + 1) ** 2) / reach**2)
    kernel: F64 = np.maximum((np.exp(-square / reach**2) - floor) / (1 - floor), 0.0)
    return kernel


def weighted_window_mean(cells: F32, kernel: F64, *, low: float, high: float, least: float = 1.0) -> F32:
    """For each cell [h,w], the weighted mean of its neighbours with ranks between the shares ``low`` and ``high``.

    Neighbours are sorted by value, and their weights are added up to ranks; the window of ranks is at least ``least``
    wide. There are no neighbours outside the field.
    """
    values, weights = _neighbours(cells, kernel)
    order = np.argsort(values, axis=0, kind="stable")
    values, weights = np.take_along_axis(values, order, 0), np.take_along_axis(weights, order, 0)
    tops = np.cumsum(weights, axis=0)
    start, end = _window(tops[-1], low, high, least)
    counted = np.clip(np.minimum(tops, end) - np.maximum(tops - weights, start), 0, None)
    total = counted.sum(axis=0)
    mean: F64 = (values * counted).sum(axis=0) / np.where(total > 0, total, 1)
    return mean.astype(np.float32)


def _window(total: F64, low: float, high: float, least: float) -> tuple[F64, F64]:
    start, end = total * low, total * high
    centre = (start + end) / 2
    wide = end - start >= least
    end_if_narrow = np.minimum(centre + least / 2, total)
    start_if_narrow = end_if_narrow - least
    below = start_if_narrow < 0
    start_if_narrow, end_if_narrow = np.where(below, 0, start_if_narrow), np.where(below, least, end_if_narrow)
    return np.where(wide, start, start_if_narrow), np.where(wide, end, end_if_narrow)


def _neighbours(cells: F32, kernel: F64) -> tuple[F64, F64]:
    """Values and weights [n,h,w] for the n places of ``kernel`` around each cell; weight 0 outside the field."""
    (height, width), radius = cells.shape, kernel.shape[0] // 2
    padded = np.pad(cells.astype(np.float64), radius)
    inside = np.pad(np.ones_like(cells, dtype=np.float64), radius)
    values, weights = [], []
    for y in range(kernel.shape[0]):
        for x in range(kernel.shape[1]):
            place = (slice(y, y + height), slice(x, x + width))
            values.append(padded[place])
            weights.append(inside[place] * kernel[y, x])
    return np.stack(values), np.stack(weights)
