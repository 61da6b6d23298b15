"""Full difference: the change itself, uncompressed."""

from __future__ import annotations

from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class FullDifference(NetworkModule):
    """``diff``, and ``diff_b`` for the bias."""

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        return "diff" in weights

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        return self.get("diff", weight)

    def bias_delta(self, like: Tensor) -> Tensor | None:
        return self.get("diff_b", like) if "diff_b" in self.weights else None
