"""Brownian motion over noise levels for the SDE samplers, one path a picture.

A path depends only on its seed and interval, not on the batch or the order of queries. It equals torchsde 0.2.6's
``BrownianTree``: an interval is halved, and increments are drawn for its halves, until the ends of a query are reached.
The seed of each node comes from :class:`numpy.random.SeedSequence` with the node's place in the tree as spawn key.

By hand: torchsde draws from torch's generators alone, where option ``randn_source`` has others, and brings scipy along.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentd.sampling.noise import RandnSource, seeded_drawer

_DIGITS = 6  # ends of intervals are rounded to a tolerance of 1e-6
_POOL_SIZE = 24
_CACHED_INCREMENTS = 128  # enough for the nodes from the root to both ends of a query, and their siblings
_SEED_MODULUS = 1 << 64


class SdeNoise(Protocol):
    """Noise for a step between two noise levels."""

    def __call__(self, sigma_from: Tensor, sigma_to: Tensor) -> Tensor:
        """Standard normal noise ``(B, C, h, w)`` for the step."""
        ...


@dataclass(eq=False, slots=True)
class _Node:
    """An interval of the tree; it has both children or none."""

    start: float
    end: float
    spawn_key: int
    depth: int
    parent: _Node | None = None
    middle: float = 0.0
    left: _Node | None = None
    right: _Node | None = None


class BrownianTree:
    """One Brownian path on [start, end].

    :param start: lowest noise level.
    :param end: highest noise level.
    :param shape: shape of one increment, ``(C, h, w)``.
    :param entropy: seed of the path; taken modulo 2**64.
    :param source: the source of the normal numbers, see :func:`latentd.sampling.noise.seeded_drawer`.
    """

    def __init__(
        self,
        start: float,
        end: float,
        shape: tuple[int, ...],
        entropy: int,
        source: RandnSource,
        device: torch.device | str = "cpu",
    ) -> None:
        self._shape = shape
        self._entropy = entropy % _SEED_MODULUS
        self._source: RandnSource = source
        self._device = device
        self._root = _Node(start=round(start, _DIGITS), end=round(end, _DIGITS), spawn_key=0, depth=0)
        self._whole = self._randn(self._seed()) * math.sqrt(end - start)
        self._cache: OrderedDict[_Node, Tensor] = OrderedDict()

    def increment(self, start: float, end: float) -> Tensor:
        """W(end) - W(start), float32 of the tree's shape; points outside the path count as its ends.

        Points that are equal within the tolerance give zeros (torchsde recurses without end there).

        :raises ValueError: a point is NaN, which no splitting of the path would reach.
        """
        if math.isnan(start) or math.isnan(end):
            raise ValueError("a noise level is no number")
        low, high = (round(min(max(point, self._root.start), self._root.end), _DIGITS) for point in (start, end))
        if low == high:
            return torch.zeros(self._shape, device=self._device)
        pieces: list[_Node] = []
        self._locate(self._root, low, high, pieces)
        total = self._value(pieces[0])
        for piece in pieces[1:]:
            total = total + self._value(piece)
        return total

    def _locate(self, node: _Node, low: float, high: float, found: list[_Node]) -> None:
        """Append the nodes that make up [low, high], splitting the tree where a boundary is missing."""
        if low == node.start and high == node.end:
            found.append(node)
            return
        if node.left is None or node.right is None:
            self._split(node, high if low == node.start else low)
        left, right = node.left, node.right
        assert left is not None
        assert right is not None
        if high <= node.middle:
            self._locate(left, low, high, found)
        elif low >= node.middle:
            self._locate(right, low, high, found)
        else:
            self._locate(left, low, node.middle, found)
            self._locate(right, node.middle, high, found)

    def _split(self, node: _Node, point: float) -> None:
        """Halve ``node``, then the half that holds ``point``, until ``point`` is a boundary."""
        while True:
            node.middle = round(0.5 * (node.end + node.start), _DIGITS)
            key, depth = 2 * node.spawn_key, node.depth + 1
            node.left = _Node(start=node.start, end=node.middle, spawn_key=key, depth=depth, parent=node)
            node.right = _Node(start=node.middle, end=node.end, spawn_key=key + 1, depth=depth, parent=node)
            if point == node.middle:
                return
            node = node.right if point > node.middle else node.left

    def _value(self, node: _Node) -> Tensor:
        """The increment over ``node``, computed from the nearest interval around it that is cached."""
        if node.parent is None:
            return self._whole
        known = self._cache.get(node)
        if known is None:
            self._halve(node.parent, self._value(node.parent))
            known = self._cache[node]
        self._cache.move_to_end(node)
        return known

    def _halve(self, parent: _Node, whole: Tensor) -> None:
        """Cache the increments of both halves of ``parent``: left by a Brownian bridge, right as the difference."""
        assert parent.left is not None
        assert parent.right is not None
        reciprocal = 1 / (parent.end - parent.start)
        left_length = parent.middle - parent.start
        variance = left_length * (parent.end - parent.middle) * reciprocal
        noise = self._randn(self._seed((parent.spawn_key, parent.depth)))
        left = left_length * whole * reciprocal + math.sqrt(variance) * noise
        for child, value in ((parent.left, left), (parent.right, whole - left)):
            self._cache[child] = value
            if len(self._cache) > _CACHED_INCREMENTS:
                self._cache.popitem(last=False)

    def _seed(self, spawn_key: tuple[int, ...] = ()) -> int:
        sequence = np.random.SeedSequence(entropy=self._entropy, spawn_key=spawn_key, pool_size=_POOL_SIZE)
        return int(sequence.generate_state(1)[0])

    def _randn(self, seed: int) -> Tensor:
        return seeded_drawer(seed, self._source, self._device)(self._shape)


class BrownianNoise:
    """Noise for SDE samplers: (W(b) - W(a)) / sqrt(|a - b|), one path a picture.

    :param shape: latent shape of one picture, ``(C, h, w)``.
    :param seeds: one seed for each picture; variation seeds and ENSD have no influence.
    :param sigma_min: smallest positive level of the full schedule.
    :param sigma_max: largest level of the full schedule.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        seeds: Sequence[int],
        sigma_min: float,
        sigma_max: float,
        source: RandnSource,
        device: torch.device | str = "cpu",
    ) -> None:
        self._trees = [BrownianTree(sigma_min, sigma_max, shape, seed, source, device) for seed in seeds]

    def __call__(self, sigma_from: Tensor, sigma_to: Tensor) -> Tensor:
        """The noise ``(B, C, h, w)`` float32 for the step between two levels."""
        a, b = torch.as_tensor(sigma_from), torch.as_tensor(sigma_to)
        low, high, sign = (a, b, 1) if a < b else (b, a, -1)
        increments = torch.stack([tree.increment(float(low), float(high)) for tree in self._trees])
        return increments * sign / (b - a).abs().sqrt().to(increments.device)
