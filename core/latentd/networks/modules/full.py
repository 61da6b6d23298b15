"""Full difference: the change itself, uncompressed."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class FullDifference(NetworkModule):
    """``diff`` for the weight and ``diff_b`` for the bias, or ``diff_b`` alone."""

    reads = frozenset({"diff"})

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there is a ``diff``, or a ``diff_b`` alone."""
        return "diff" in weights or weights.keys() == {"diff_b"}

    def elements(self, weight: Tensor) -> int:
        """As many as ``diff`` has; 0 if only the bias changes."""
        return self.weights["diff"].numel() if "diff" in self.weights else 0

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """``diff`` itself; zeros if only the bias changes."""
        return self.get("diff", weight) if "diff" in self.weights else torch.zeros_like(weight)
