"""Orthogonal rotations of a layer's input, as OneTrainer and PEFT since 0.16 train them (OFT, second version)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights

_WEIGHT, _SCALED = "oft_R.weight", "oft_R.scaled_oft"


class InputRotation(NetworkModule):
    """``W · Rᵀ - W`` for a matrix; ``W · R - W`` for a convolution's weight [out, in·kh·kw], which is OneTrainer's way.

    ``oft_R.weight`` [blocks, b(b-1)/2] holds what is above the diagonal of skew-symmetric matrices Q, one for each run
    of ``b`` inputs or one for all. R is ``I + 2Q + 2Q² + 2Q³ + Q⁴``, near the Cayley transform of Q; both trainers use
    this sum, in training and afterwards. With ``oft_R.scaled_oft``, elements are divided by the root of their number.

    Source: Qiu et al., Orthogonal Finetuning Made Scalable (2025), and files of both trainers.
    """

    reads = frozenset({_WEIGHT, _SCALED, "initial_norm"})

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there is ``oft_R.weight``."""
        return _WEIGHT in weights

    @property
    def scale(self) -> float:
        """1, because a rotation has no scale."""
        return 1.0

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The weight with rotated inputs minus the weight, of the weight's shape; ``rank`` is ignored."""
        exact = weight.float()
        blocks = self._blocks(exact, inputs=exact[0].numel())
        if weight.dim() == 2:
            blocks = blocks.transpose(-1, -2)
        size = blocks.shape[-1]
        runs = exact.reshape(weight.shape[0], -1, size)
        turned = torch.einsum("onj,njk->onk", runs, blocks.expand(runs.shape[1], size, size))
        return (turned.reshape(weight.shape) - exact).to(weight.dtype)

    def _blocks(self, like: Tensor, inputs: int) -> Tensor:
        """R's blocks [n, b, b], or [1, b, b] for one that serves all runs.

        :raises ValueError: they are of another number of inputs.
        """
        above = self.get(_WEIGHT, like)
        count, elements = above.shape
        size = (1 + math.isqrt(1 + 8 * elements)) // 2
        if size * (size - 1) // 2 != elements:
            raise ValueError(f"{elements} is no number of elements above a diagonal")
        if count * size != inputs and (count > 1 or inputs % size):
            raise ValueError(f"{count} rotations of {size} inputs for a weight of {inputs}")
        if _SCALED in self.weights:
            above = above / math.sqrt(elements)
        skew = torch.zeros(count, size, size, dtype=like.dtype, device=like.device)
        rows, columns = torch.triu_indices(size, size, 1, device=like.device)
        skew[:, rows, columns] = above
        skew = skew - skew.transpose(-1, -2)
        identity = torch.eye(size, dtype=like.dtype, device=like.device)
        square = skew @ skew
        return identity + 2 * skew + 2 * square + 2 * square @ skew + square @ square
