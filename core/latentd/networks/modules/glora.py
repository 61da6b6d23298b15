"""GLoRA: a low-rank term, plus one that acts on the weight itself."""

from __future__ import annotations

import math

from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights

_PARTS = ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha")


class GLora(NetworkModule):
    """``b2 · b1 + (W · a2) · a1``."""

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether all five tensors of GLoRA are there."""
        return all(name in weights for name in _PARTS)

    def elements(self, weight: Tensor) -> int:
        """The size of ``b2 · b1``."""
        b1, b2 = self.weights["b1.weight"], self.weights["b2.weight"]
        return b2.shape[0] * math.prod(b1.shape[1:])

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The change, a matrix [out, in]; GLoRA has no ranks to leave out."""
        a1, a2, b1, b2 = (self.get(name, weight).flatten(1) for name in _PARTS[:4])
        return b2 @ b1 + (weight.flatten(1) @ a2) @ a1
