"""What all weight types share: scale, shape, the bias part, and DoRA's renormalisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]

#: Tensors that a module of any type may have.
COMMON = frozenset({"alpha", "scale", "bias", "dora_scale", "diff_b"})


class NetworkModule(ABC):
    """The change of one module that a network file contains.

    Subclasses define which weight names belong to them (:meth:`matches`, :attr:`reads`) and what change these mean
    (:meth:`raw`).

    :cvar reads: names of the tensors that the type reads, besides ``COMMON``.
    :cvar has_rank: whether trainers divide alpha by a rank for this type.
    """

    reads: ClassVar[frozenset[str]]
    has_rank: ClassVar[bool] = False

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @classmethod
    @abstractmethod
    def matches(cls, weights: Weights) -> bool:
        """Whether these weights are of this type."""

    @abstractmethod
    def raw(self, weight: Tensor, rank: int | None) -> Tensor:
        """The unscaled change, with as many elements as ``weight`` or in a shape that broadcasts to its shape.

        :param weight: the module's present weight, which multiplicative types need.
        :param rank: use only so many ranks (a tag's ``dyn``); types without ranks ignore it.
        """

    @property
    def dim(self) -> int | None:
        """The rank by which ``alpha`` is divided; None if the type has no rank."""
        return None

    def elements(self, weight: Tensor) -> int:
        """The number of elements of the change, known before it is computed; by default that of ``weight``."""
        return weight.numel()

    @property
    def scale(self) -> float:
        """The tensor ``scale`` if there is one, else alpha / dim if both are known, else 1."""
        if "scale" in self.weights:
            return float(self.weights["scale"])
        if self.dim and "alpha" in self.weights:
            return float(self.weights["alpha"]) / self.dim
        return 1.0

    def unread(self) -> tuple[str, ...]:
        """Names of the tensors that the file has for the module and that mean nothing to this type, sorted."""
        return tuple(sorted(self.weights.keys() - COMMON - self.reads))

    def get(self, name: str, like: Tensor) -> Tensor:
        """The weight of this name on the device and in the dtype of ``like``."""
        return self.weights[name].to(device=like.device, dtype=like.dtype)

    def delta(self, weight: Tensor, *, rank: int | None = None, reshape: bool = True) -> Tensor:
        """The change of ``weight`` at multiplier 1, in its dtype and, if the sizes agree, in its shape.

        :param reshape: take a change with other outputs if it has as many elements, as AUTOMATIC1111 does.
        :raises ValueError: the change is larger than the weight or has other outputs, so it must be another module's.
        """
        if self.elements(weight) > weight.numel():
            raise ValueError(f"a change of {self.elements(weight)} elements for a weight of {weight.numel()}")
        change = self.raw(weight, rank)
        if "bias" in self.weights:
            change = change.reshape(self.weights["bias"].shape) + self.get("bias", weight)
        if change.numel() == weight.numel():
            if not reshape and change.dim() > 1 and change.shape[0] != weight.shape[0]:
                raise ValueError(f"a change of {change.shape[0]} outputs for a weight of {weight.shape[0]}")
            change = change.reshape(weight.shape)
        change = change * self.scale
        return self._renormalised(change, weight) if "dora_scale" in self.weights else change

    def bias_delta(self, like: Tensor) -> Tensor | None:
        """The change of the module's bias at multiplier 1 (``diff_b``, which any type may have), or None."""
        return self.get("diff_b", like) if "diff_b" in self.weights else None

    def _renormalised(self, change: Tensor, weight: Tensor) -> Tensor:
        """DoRA: the changed weight scaled to the learned norms, minus the weight.

        There is one norm per input channel, or one per output channel if ``dora_scale`` has that shape.
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
