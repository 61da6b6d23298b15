"""Hypernetworks: small networks that change the context of attention (rules: a1111-hypernetworks)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latentd.errors import ModelLoadError
from latentd.generations import UNetHook
from latentd.networks.activations import hypernetwork_activation
from latentd.types import Attend, AttentionHandler, AttentionSite, UNetCall

if TYPE_CHECKING:
    from latentd.models.files.pickles.values import PickleDict

_LAYER = re.compile(r"linear\.?(\d+)\.(weight|bias)")


class Hypernetwork:
    """A loaded file: one network for keys and one for values, for each context width."""

    def __init__(self, name: str, layers: Mapping[int, tuple[nn.Module, nn.Module]]) -> None:
        self.name = name
        self.layers = layers

    def changes(self, key_context: Tensor, value_context: Tensor) -> tuple[Tensor, Tensor] | None:
        """The changes of both contexts [B, n, width] at multiplier 1; None if the file has no network of that width."""
        pair = self.layers.get(key_context.shape[-1])
        if pair is None:
            return None
        for network in pair:
            network.to(device=key_context.device, dtype=key_context.dtype)
        return pair[0](key_context), pair[1](value_context)


class ContextChanges:
    """From the context [B,n,width] of an attention layer to those for its keys and its values.

    Hypernetworks act one after another, each on the result of the one before.

    :param active: hypernetworks with their multipliers.
    """

    def __init__(self, active: Sequence[tuple[Hypernetwork, float]]) -> None:
        self._active = tuple(active)

    def __call__(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The contexts for keys and for values, both [B, n, width]."""
        keys = values = context
        for hypernetwork, multiplier in self._active:
            if (change := hypernetwork.changes(keys, values)) is not None:
                keys, values = keys + change[0] * multiplier, values + change[1] * multiplier
        return keys, values


class HypernetworkHooks(UNetHook):
    """A UNet hook that applies hypernetworks to every attention layer, self and cross.

    It must be the last of a job's hooks: it uses separate contexts for keys and values, so that no handler can follow.
    """

    def __init__(self, active: Sequence[tuple[Hypernetwork, float]]) -> None:
        self._changes = ContextChanges(active)

    def attention(self, site: AttentionSite) -> AttentionHandler:
        """The same handler for every site; it recognises contexts by their width."""
        return self._handle

    def _handle(self, call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
        return attend(hidden, *self._changes(hidden if context is None else context))


def load_hypernetwork(path: Path) -> Hypernetwork:
    """The hypernetwork in a ``.pt`` file, on the CPU.

    :raises ModelLoadError: the file is damaged, refused by the unpickler, or has an unknown activation.
    """
    from latentd.models.files.unpickle import load_pickle

    return build_hypernetwork(load_pickle(path), path.stem)


def build_hypernetwork(state: PickleDict, name: str) -> Hypernetwork:
    """The hypernetwork in a file's dictionary, whose integer keys are widths and whose text keys are settings.

    :raises ModelLoadError: layers that do not form a network, or an unknown activation.
    """
    activation = str(state.get("activation_func") or "")
    activate_output = bool(state.get("activate_output", True))
    try:
        layers = {
            width: (_network(pair[0], activation, activate_output), _network(pair[1], activation, activate_output))
            for width, pair in state.items()
            if isinstance(width, int)
        }
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelLoadError(f"hypernetwork {name!r} is damaged: {error}") from error
    return Hypernetwork(str(state.get("name") or name), layers)


def _network(weights: Mapping[str, Tensor], activation: str, activate_output: bool) -> nn.Module:
    """Linear layers (matrices) and layer norms (vectors) in file order, with an activation after each linear one."""
    numbers = sorted({int(match[1]) for key in weights if (match := _LAYER.fullmatch(key))})
    found = [(_tensor(weights, n, "weight"), _tensor(weights, n, "bias")) for n in numbers]
    last = max((i for i, (weight, _) in enumerate(found) if weight.dim() == 2), default=-1)
    if last < 0:
        raise KeyError("no linear layer")
    modules: list[nn.Module] = []
    for i, (weight, bias) in enumerate(found):
        modules.append(_layer(weight, bias))
        if weight.dim() == 2 and (i != last or activate_output):
            between = hypernetwork_activation(activation)
            modules += [] if between is None else [between]
    return nn.Sequential(*modules).requires_grad_(False).eval()


def _tensor(weights: Mapping[str, Tensor], number: int, part: str) -> Tensor:
    """The tensor under its present key, or under the key of the first files (``linear1.weight``)."""
    key = f"linear.{number}.{part}"
    tensor = weights[key if key in weights else f"linear{number}.{part}"].float()
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"weights that are no number (NaN or infinite) in {key}")
    return tensor


def _layer(weight: Tensor, bias: Tensor) -> nn.Module:
    with torch.device("meta"):
        is_norm = weight.dim() == 1
        layer: nn.Module = nn.LayerNorm(len(weight)) if is_norm else nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return layer
