"""OFT and BOFT: rotations of the output channels in blocks, once or butterfly-wise."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class Oft(NetworkModule):
    """``R · W - W``, with the blocks of R from skew-symmetric matrices by the Cayley transform.

    ``oft_diag`` (old LyCORIS) holds R's blocks themselves; four-dimensional ``oft_blocks`` are BOFT.
    """

    reads = frozenset({"oft_blocks", "oft_diag", "rescale"})

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there are ``oft_blocks`` or ``oft_diag``."""
        return "oft_blocks" in weights or "oft_diag" in weights

    @property
    def scale(self) -> float:
        """1, because ``alpha`` bounds the rotation of this type and is not a scale."""
        return 1.0

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The rotated weight minus the weight, of the weight's shape; ``rank`` is ignored."""
        # Inversion in half precision is not implemented everywhere, nor is it accurate.
        exact = weight.float()
        blocks = self._blocks(exact, weight.shape[0])
        turned = _butterfly(exact, blocks) if blocks.dim() == 4 else _turn(exact, blocks.transpose(-1, -2))
        if "rescale" in self.weights:
            turned = self.get("rescale", exact).reshape(-1, *[1] * (weight.dim() - 1)) * turned
        return (turned - exact).to(weight.dtype)

    def _blocks(self, like: Tensor, out_channels: int) -> Tensor:
        """R's blocks [n, b, b], or [m, n, b, b] for BOFT."""
        if "oft_blocks" not in self.weights:
            return self.get("oft_diag", like)
        given = self.get("oft_blocks", like)
        if given.shape[-3] * given.shape[-1] != out_channels:  # before the time that inverting takes
            raise ValueError(f"rotations of {given.shape[-3] * given.shape[-1]} outputs for a weight of {out_channels}")
        skew = given - given.transpose(-1, -2)
        bound = float(self.weights["alpha"]) * out_channels if "alpha" in self.weights else 0.0
        if bound:
            norm = skew.norm()
            skew = skew * ((norm.clamp(max=bound) + 1e-8) / (norm + 1e-8))
        identity = torch.eye(given.shape[-1], device=like.device, dtype=like.dtype)
        rotation: Tensor = (identity + skew) @ torch.linalg.inv(identity - skew)
        return rotation


def _turn(weight: Tensor, blocks: Tensor) -> Tensor:
    """Each run of ``b`` output channels multiplied by its block [b, b]."""
    count, size = blocks.shape[:2]
    runs = weight.reshape(count, size, *weight.shape[1:])
    return torch.einsum("nij,nj...->ni...", blocks, runs).reshape(weight.shape)


def _butterfly(weight: Tensor, stages: Tensor) -> Tensor:
    """``weight`` after all stages: each gathers channels at twice the last distance and rotates them by blocks."""
    half = stages.shape[-1] // 2
    for stage, blocks in enumerate(stages):
        distance = half * 2**stage
        apart = weight.reshape(-1, 2, distance, *weight.shape[1:])
        turned = _turn(apart.transpose(1, 2).reshape(weight.shape), blocks)
        back = turned.reshape(apart.shape[0], distance, 2, *weight.shape[1:])
        weight = back.transpose(1, 2).reshape(weight.shape)
    return weight
