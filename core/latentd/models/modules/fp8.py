"""Weights kept in eight bits: half the memory of fp16, converted back layer by layer at each use.

Source: options ``fp8_storage`` and ``cache_fp16_weight`` of AUTOMATIC1111 1.8: every linear and convolutional layer of
the UNet and the text encoders is stored as float8 e4m3; the VAE and all other layers are unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FP8 = torch.float8_e4m3fn


@dataclass(slots=True)
class _Store:
    """The dtype in which an eight-bit layer computes, and the copies of its parameters from before."""

    dtype: torch.dtype
    full: dict[str, Tensor]


class Fp8Linear(nn.Linear):
    """A linear layer with weights in eight bits."""

    store: _Store

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's, in the dtype of ``x``."""
        return functional.linear(x, self.weight.to(x.dtype), _like(self.bias, x))


class Fp8Conv2d(nn.Conv2d):
    """A convolution with weights in eight bits."""

    store: _Store

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's, in the dtype of ``x``."""
        out: Tensor = self._conv_forward(x, self.weight.to(x.dtype), _like(self.bias, x))
        return out


def keep_in_fp8(roots: Iterable[nn.Module], *, keep_full: bool) -> None:
    """Replace every linear layer and convolution in ``roots`` by an eight-bit layer.

    :param keep_full: keep fp16 copies of the weights in main memory, to which networks are applied.
    """
    done: dict[nn.Module, nn.Module] = {}
    for root in roots:
        for parent in list(root.modules()):
            for name, child in list(parent.named_children()):
                if child not in done and (stored := _stored(child, keep_full)) is not None:
                    done[child] = stored
                if child in done:
                    setattr(parent, name, done[child])


def exact_parameter(module: nn.Module, name: str) -> Tensor | None:
    """The most precise value of parameter ``name`` of ``module``, in a dtype for computing; None if it has none.

    For an eight-bit layer this is its fp16 copy, or else the eight-bit values in the dtype in which it computes.
    """
    parameter: Tensor | None = getattr(module, name)
    store: _Store | None = getattr(module, "store", None)
    if parameter is None or store is None or parameter.dtype != FP8:
        return parameter
    copy = store.full.get(name)
    return (parameter if copy is None else copy).to(device=parameter.device, dtype=store.dtype)


def copies_nbytes(root: nn.Module) -> int:
    """Bytes of the fp16 copies in ``root``."""
    stores = (store for module in root.modules() if (store := getattr(module, "store", None)) is not None)
    return sum(copy.nbytes for store in stores for copy in store.full.values())


def _stored(module: nn.Module, keep_full: bool) -> nn.Module | None:
    """The eight-bit layer for ``module``; None if it is neither a plain linear layer nor a plain convolution."""
    made: Fp8Linear | Fp8Conv2d
    with torch.device("meta"):
        if type(module) is nn.Linear:
            made = Fp8Linear(module.in_features, module.out_features, bias=module.bias is not None)
        elif type(module) is nn.Conv2d:
            made = Fp8Conv2d(**_convolution(module))
        else:
            return None
    made.store = _Store(module.weight.dtype, {})
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(made, name, nn.Parameter(parameter.detach().to(FP8), requires_grad=False))
        if keep_full:
            made.store.full[name] = parameter.detach().half().cpu()
    return made.train(module.training)


def _convolution(module: nn.Conv2d) -> dict[str, Any]:  # arguments, each of a type of its own
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {**{name: getattr(module, name) for name in names}, "bias": module.bias is not None}


def _like(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
