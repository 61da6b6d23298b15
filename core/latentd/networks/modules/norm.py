"""Norm: additive changes of a normalisation layer's weight and bias."""

from __future__ import annotations

from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class NormDifference(NetworkModule):
    """``w_norm`` on the weight, ``b_norm`` on the bias."""

    reads = frozenset({"w_norm", "b_norm"})

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there are ``w_norm`` and ``b_norm``."""
        return "w_norm" in weights and "b_norm" in weights

    def elements(self, weight: Tensor) -> int:
        """The size of ``w_norm``."""
        return self.weights["w_norm"].numel()

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """``w_norm`` itself."""
        return self.get("w_norm", weight)

    def bias_delta(self, like: Tensor) -> Tensor:
        """``b_norm`` itself."""
        return self.get("b_norm", like)
