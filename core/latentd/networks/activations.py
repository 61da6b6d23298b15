"""The activations of hypernetworks, under the names that files and requests have for them. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.errors import ModelLoadError

if TYPE_CHECKING:
    from torch import nn

_CLASSES = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish"),
    *("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)
_BY_NAME = {"swish": "Hardswish", **{name.lower(): name for name in _CLASSES}}
_NONE = ("linear", "none", "")


def hypernetwork_activations() -> tuple[str, ...]:
    """Names in lower case: ``linear`` for none, and torch's that need no argument, as in AUTOMATIC1111."""
    return ("linear", *_BY_NAME)


def hypernetwork_activation(name: str | None) -> nn.Module | None:
    """A new activation; ``name`` may be in any case. None for ``linear``, ``none`` and no name: there is none.

    :raises ModelLoadError: it is not one of :func:`hypernetwork_activations`.
    """
    from torch import nn

    wanted = (name or "").lower()
    if wanted in _NONE:
        return None
    if wanted not in _BY_NAME:
        raise ModelLoadError(f"unknown activation {name!r} in a hypernetwork")
    activation: nn.Module = getattr(nn, _BY_NAME[wanted])()
    return activation
