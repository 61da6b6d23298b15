"""Layers of networks that are written as functions of their weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional


class Layers:
    """Layers by the names of their weights.

    :param weights: tensors, on the device to work on.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in self._weights.values())

    def convolve(self, name: str, values: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        """The output of a convolution, with its bias if it has one."""
        weight, bias = self._weights[name + ".weight"], self._weights.get(name + ".bias")
        return functional.conv2d(values, weight, bias, stride, padding)

    def normalise(self, name: str, values: Tensor) -> Tensor:
        """The output of a batch normalisation with the statistics of training."""
        mean, variance = (self._weights[f"{name}.running_{kind}"] for kind in ("mean", "var"))
        return functional.batch_norm(
            values, mean, variance, self._weights[name + ".weight"], self._weights[name + ".bias"]
        )

    def dense(self, name: str, values: Tensor) -> Tensor:
        """The output of a fully connected layer."""
        return functional.linear(values, self._weights[name + ".weight"], self._weights[name + ".bias"])

    def prelu(self, name: str, values: Tensor) -> Tensor:
        """The output of a rectifier with a trained slope."""
        return functional.prelu(values, self._weights[name + ".weight"])
