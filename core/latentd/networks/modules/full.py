"""Full difference: the change itself, uncompressed."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class FullDifference(NetworkModule):
    """``diff``, and ``diff_b`` for the bias; the bias alone where the weight stays as it is."""

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        return "diff" in weights or weights.keys() == {"diff_b"}

    def elements(self, weight: Tensor) -> int:
        return self.weights["diff"].numel() if "diff" in self.weights else 0

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        return self.get("diff", weight) if "diff" in self.weights else torch.zeros_like(weight)
