"""IA3: a learned factor for each output or input channel."""

from __future__ import annotations

from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class IA3(NetworkModule):
    """``W ⊙ w``, per column with ``on_input``, else per row."""

    reads = frozenset({"weight", "on_input"})

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there are ``weight`` and ``on_input``."""
        return "weight" in weights and "on_input" in weights

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The product of ``weight`` and the learned factors, of the weight's shape."""
        axis = 1 if bool(self.weights["on_input"]) else 0
        shape = [1] * weight.dim()
        shape[axis] = weight.shape[axis]
        return weight * self.get("weight", weight).reshape(shape)
