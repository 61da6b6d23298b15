"""LoHa: the element-wise product of two low-rank products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights
from latentd.networks.modules.lora import low_rank

_FACTORS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


class LoHa(NetworkModule):
    """``(w1a · w1b) ⊙ (w2a · w2b)``; a side that has a tensor ``t`` is in CP form."""

    reads = frozenset({*_FACTORS, "hada_t1", "hada_t2"})
    has_rank = True

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether all four factors are there."""
        return all(name in weights for name in _FACTORS)

    @property
    def dim(self) -> int:
        """The rank of the first product."""
        return self.weights["hada_w1_b"].shape[0]

    def elements(self, weight: Tensor) -> int:
        """The size of the first product."""
        a, b = self.weights["hada_w1_a"], self.weights["hada_w1_b"]
        if "hada_t1" in self.weights:
            return a.shape[1] * b.shape[1] * math.prod(self.weights["hada_t1"].shape[2:])
        return a.shape[0] * math.prod(b.shape[1:])

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The element-wise product of both sides; ``rank`` is ignored."""
        return self._side(weight, 1) * self._side(weight, 2)

    def _side(self, weight: Tensor, n: int) -> Tensor:
        a, b = self.get(f"hada_w{n}_a", weight), self.get(f"hada_w{n}_b", weight)
        if f"hada_t{n}" in self.weights:
            return cp_product(self.get(f"hada_t{n}", weight), a, b)
        return low_rank(a, b)


def cp_product(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """[out, in, kh, kw] from ``core`` [r, s, kh, kw], ``a`` [r, out] and ``b`` [s, in]."""
    return torch.einsum("ijkl,jr,ip->prkl", core, b, a)
