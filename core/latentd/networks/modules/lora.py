"""LoRA: a low-rank product, for convolutions optionally through a middle tensor (LoCon's CP form)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentd.networks.modules.base import NetworkModule, Weights


class Lora(NetworkModule):
    """``up · down``, or the CP product of up, mid and down."""

    reads = frozenset({"lora_up.weight", "lora_mid.weight", "lora_down.weight", "lora_up.bias"})
    has_rank = True

    @classmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether there are ``lora_up`` and ``lora_down``."""
        return "lora_up.weight" in weights and "lora_down.weight" in weights

    @property
    def dim(self) -> int:
        """The number of rows of ``lora_down``."""
        return self.weights["lora_down.weight"].shape[0]

    @property
    def is_plain(self) -> bool:
        """Whether the change is the scaled product of two matrices and nothing else."""
        return not {"lora_mid.weight", "bias", "dora_scale", "diff_b", "lora_up.bias"} & set(self.weights)

    def elements(self, weight: Tensor) -> int:
        """The size of the product, its kernel included."""
        up, down = self.weights["lora_up.weight"], self.weights["lora_down.weight"]
        kernel = self.weights.get("lora_mid.weight", down)
        return up.shape[0] * down.shape[1] * math.prod(kernel.shape[2:])

    def bias_delta(self, like: Tensor) -> Tensor | None:
        """PEFT's ``lora_bias``: the bias of the second matrix, scaled as the product is."""
        if "lora_up.bias" not in self.weights:
            return super().bias_delta(like)
        return self.get("lora_up.bias", like) * self.scale

    def factors(self, like: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
        """Up [out,r] and down [r,in] on the device and in the dtype of ``like``, of the first ``rank`` ranks."""
        up, down = (self.get(f"lora_{name}.weight", like).flatten(1) for name in ("up", "down"))
        return (up, down) if rank is None else (up[:, :rank], down[:rank])

    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The product, of the first ``rank`` ranks; a product through ``lora_mid`` always has all ranks."""
        up, down = self.get("lora_up.weight", weight), self.get("lora_down.weight", weight)
        if "lora_mid.weight" in self.weights:
            mid = self.get("lora_mid.weight", weight)
            return torch.einsum("nmkl,in,mj->ijkl", mid, up.flatten(1), down.flatten(1))
        product = low_rank(up, down, rank)
        return product.reshape(*product.shape[:1], *down.shape[1:]) if down.dim() == 4 else product


def low_rank(up: Tensor, down: Tensor, rank: int | None = None) -> Tensor:
    """``up · down`` with trailing dimensions flattened, of the first ``rank`` ranks."""
    left, right = up.flatten(1), down.flatten(1)
    if rank is not None:
        left, right = left[:, :rank], right[:rank]
    return left @ right
