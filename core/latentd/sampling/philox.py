"""Philox-4x32: the random numbers that PyTorch draws on NVIDIA cards, made in software.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), with 10 rounds, followed by the sine half
of a Box-Muller transform. Rules: a1111-seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LOW = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 1 << 32
# CUDA stores both factors in float32 and computes with them in float64.
_UNIT = np.float64(np.float32(2.3283064e-10))
_ANGLE = np.float64(np.float32(2.3283064e-10 * 6.2831855))
_UNIT_HALF = np.float64(np.float32(2.3283064e-10) / np.float32(2))
_ANGLE_HALF = np.float64(np.float32(2.3283064e-10 * 6.2831855) / np.float32(2))


class PhiloxGenerator:
    """A stream of standard normal numbers equal to that of a CUDA generator with the same seed.

    :param seed: any integer; taken modulo 2**64.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed % (1 << 64)
        self._draws = 0

    def randn(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The next draw: float32 of ``shape``. Each call advances the counter by one, whatever the shape is."""
        count = math.prod(shape)
        first, second = _philox_words(count, self._draws, self._seed)
        self._draws += 1
        radius = np.sqrt(-2.0 * np.log(first * _UNIT + _UNIT_HALF))
        normal = radius * np.sin(second * _ANGLE + _ANGLE_HALF)
        return normal.astype(np.float32).reshape(shape)


def _philox_words(count: int, draw: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The first two of the four words for the counters (draw, 0, 0...count-1, 0)."""
    c0 = np.full(count, draw % _WORD, dtype=np.uint64)
    c1 = np.zeros(count, dtype=np.uint64)
    c2 = np.arange(count, dtype=np.uint64)
    c3 = np.zeros(count, dtype=np.uint64)
    key0, key1 = seed % _WORD, seed // _WORD
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0 = (product1 >> _HALF_WORD) ^ c1 ^ np.uint64(key0)
        c1 = product1 & _LOW
        c2 = (product0 >> _HALF_WORD) ^ c3 ^ np.uint64(key1)
        c3 = product0 & _LOW
        key0 = (key0 + _KEY_STEPS[0]) % _WORD
        key1 = (key1 + _KEY_STEPS[1]) % _WORD
    return c0, c1
