"""What every weight type shares: scale, shape, the bias part, and DoRA's renormalisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


class NetworkModule(ABC):
    """The change that a network file asks of one module.

    Subclasses say which weight names they are made of (:meth:`matches`) and what change these mean (:meth:`raw`).
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @classmethod
    @abstractmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether these weights are of this type."""

    @abstractmethod
    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The unscaled change, with as many elements as ``weight`` or in a shape that broadcasts to none other.

        :param weight: the module's present weight, which types of a multiplicative kind need.
        :param rank: keep only so many ranks (a tag's ``dyn``); types without ranks ignore it.
        """

    @property
    def dim(self) -> int | None:
        """The rank that ``alpha`` is divided by, or None where the type has none."""
        return None

    def elements(self, weight: Tensor) -> int:
        """How many elements the change will have, told before it is made; by default as many as ``weight``."""
        return weight.numel()

    @property
    def scale(self) -> float:
        """The tensor ``scale`` if present, else alpha / dim where both are known, else 1."""
        if "scale" in self.weights:
            return float(self.weights["scale"])
        if self.dim and "alpha" in self.weights:
            return float(self.weights["alpha"]) / self.dim
        return 1.0

    def get(self, name: str, like: Tensor) -> Tensor:
        """The weight of this name on the device and in the dtype of ``like``."""
        return self.weights[name].to(device=like.device, dtype=like.dtype)

    def delta(self, weight: Tensor, *, rank: int | None = None) -> Tensor:
        """The change of ``weight`` at multiplier 1, in its dtype and, where the sizes agree, its shape.

        :raises ValueError: the change is larger than the weight, so that it is another module's.
        """
        if self.elements(weight) > weight.numel():
            raise ValueError(f"a change of {self.elements(weight)} elements for a weight of {weight.numel()}")
        change = self.raw(weight, rank)
        if "bias" in self.weights:
            change = change.reshape(self.weights["bias"].shape) + self.get("bias", weight)
        if change.numel() == weight.numel():
            change = change.reshape(weight.shape)
        change = change * self.scale
        return self._renormalised(change, weight) if "dora_scale" in self.weights else change

    def bias_delta(self, like: Tensor) -> Tensor | None:
        """The change of the module's bias at multiplier 1 (``diff_b``, which goes with every type), or None."""
        return self.get("diff_b", like) if "diff_b" in self.weights else None

    def _renormalised(self, change: Tensor, weight: Tensor) -> Tensor:
        """DoRA: the changed weight brought to the learned norms, minus the weight.

        The norms are one per input channel, or one per output channel where ``dora_scale`` has that shape.
        Source: Liu et al., DoRA (2024), and LyCORIS for the axis.
        """
        norms = self.get("dora_scale", weight)
        changed = weight + change
        by_output = norms.shape[0] == weight.shape[0] and norms.numel() == weight.shape[0]
        kept = 0 if by_output else 1
        others = tuple(axis for axis in range(changed.dim()) if axis != kept)
        present = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
        renormalised: Tensor = changed * (norms.reshape(present.shape) / present)
        return renormalised - weight
