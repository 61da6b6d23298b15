"""GLoRA: a low-rank term, plus one that acts on the weight itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights

_PARTS = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")


class GLora(NetworkModule):
    """``b2 · b1 + (W · a2) · a1``, or as LyCORIS 2 and later name the same: ``b1 · b2 + (W · a1) · a2``."""

    reads = frozenset(_PARTS)

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether all five tensors of GLoRA are there."""
        return all(name in weights for name in (*_PARTS, "alpha"))

    @property
    def is_later(self) -> bool:
        """Whether the names are LyCORIS 2's: ``a2`` is [rank, in] there, and the rank is below the inputs."""
        a2 = self.weights["a2.weight"]
        return a2.shape[0] < a2.shape[1]

    @property
    def dim(self) -> int | None:
        """The rank; None with the earlier names, which AUTOMATIC1111 reads without their alpha."""
        return self.weights["a2.weight"].shape[0] if self.is_later else None

    def elements(self, weight: Tensor) -> int:
        """The size of the low-rank term."""
        up, down = self.weights["b2.weight"], self.weights["b1.weight"]
        if self.is_later:
            up, down = down, up
        return up.shape[0] * math.prod(down.shape[1:])

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The change, of the weight's shape; GLoRA has no ranks to leave out."""
        a1, a2, b1, b2 = (self.get(name, weight).flatten(1) for name in _PARTS)
        if self.is_later:
            a1, a2, b1, b2 = a2, a1, b2, b1
        narrow = torch.einsum("oi...,ir->or...", weight, a2)
        on_weight = torch.einsum("or...,ri->oi...", narrow, a1)
        return (b2 @ b1).reshape(weight.shape) + on_weight
