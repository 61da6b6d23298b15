"""LoKr: a Kronecker product, either factor whole or of low rank."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights
from latentd.networks.modules.loha import cp_product


class LoKr(NetworkModule):
    """``kron(w1, w2)``."""

    reads = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"})
    has_rank = True

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether both factors are there, each whole or as two matrices."""
        return all(
            name in weights or (f"{name}_a" in weights and f"{name}_b" in weights) for name in ("lokr_w1", "lokr_w2")
        )

    @property
    def dim(self) -> int | None:
        """The rank of the second factor, else of the first; None if both are whole."""
        for name in ("lokr_w2_b", "lokr_w1_b"):
            if name in self.weights:
                return self.weights[name].shape[0]
        return None

    def elements(self, weight: Tensor) -> int:
        """The product of both factors' sizes."""
        return self._size("lokr_w1") * self._size("lokr_w2")

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The Kronecker product of both factors; ``rank`` is ignored."""
        w1, w2 = self._factor("lokr_w1", weight), self._factor("lokr_w2", weight)
        if w2.dim() == 4:
            w1 = w1[:, :, None, None]
        return torch.kron(w1, w2.contiguous())

    def _size(self, name: str) -> int:
        if name in self.weights:
            return self.weights[name].numel()
        a, b = self.weights[f"{name}_a"], self.weights[f"{name}_b"]
        if name == "lokr_w2" and "lokr_t2" in self.weights:
            return a.shape[1] * b.shape[1] * math.prod(self.weights["lokr_t2"].shape[2:])
        return a.shape[0] * math.prod(b.shape[1:])

    def _factor(self, name: str, weight: Tensor) -> Tensor:
        if name in self.weights:
            return self.get(name, weight)
        a, b = self.get(f"{name}_a", weight), self.get(f"{name}_b", weight)
        if name == "lokr_w2" and "lokr_t2" in self.weights:
            return cp_product(self.get("lokr_t2", weight), a, b)
        return a @ b
