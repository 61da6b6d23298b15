"""Laying networks over a loaded model's weights, and taking them off again without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from latentd.errors import InvalidRequest
from latentd.models.fp8 import FP8, exact_parameter
from latentd.networks.beside import Beside, fits_beside
from latentd.networks.files import NetworkContents, NetworkOnDisk, read_network
from latentd.networks.modules import NetworkModule, module_from
from latentd.networks.names import Site, Targets, site_index

Way = Literal["merged", "beside", "outputs"]
Read = Callable[[Path], NetworkContents]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """One tag of a prompt, resolved: the file, its multipliers for text encoders and UNet, and ``dyn`` ranks.

    ``way``: ``merged`` into the weights; ``beside`` each layer at every call; ``outputs``: beside, and fed the layer's
    output where its shape is the input's.
    """

    network: NetworkOnDisk
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    way: Way = "merged"

    def key(self) -> tuple[Any, ...]:
        """Equal for requests with equal effect."""
        return (self.network.path, self.network.stamp, self.te, self.unet, self.dyn, self.way)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedNetwork:
    """What became of one request: modules changed, names that meant no module here, embeddings brought along."""

    network: NetworkOnDisk
    matched: int
    unmatched: tuple[str, ...]
    embeddings: Mapping[str, Mapping[str, Tensor]]


class NetworkState:
    """The networks laid over one loaded model; the model's cache entry holds one of these.

    Weights are never written to: a changed module gets a new parameter and its own is put aside, so taking networks
    off is exact and leaves nothing behind. Not for use by two threads at once.

    :param keep_on: device for the originals meanwhile (``cpu`` saves a GPU's memory); None leaves them in place.
    """

    def __init__(self, *, keep_on: torch.device | str | None = None) -> None:
        self._keep_on = torch.device(keep_on) if keep_on is not None else None
        self._originals: dict[tuple[int, str], _Original] = {}
        self._exact: dict[tuple[int, str], Tensor] = {}
        self._beside: list[RemovableHandle] = []
        self._key: tuple[Any, ...] = ()
        self._applied: tuple[AppliedNetwork, ...] = ()

    @property
    def applied(self) -> tuple[AppliedNetwork, ...]:
        """What is laid over the model now."""
        return self._applied

    def apply(
        self, targets: Targets, requests: Sequence[NetworkRequest], *, read: Read = read_network
    ) -> tuple[AppliedNetwork, ...]:
        """Make ``requests``, in order, what is laid over the model; nothing is done when that is so already.

        W' = W + Σ m·s·ΔW, network after network in the model's dtype. On an error the model is left as it was loaded.

        :param read: gives what a file holds.
        :raises ModelLoadError: a file is damaged or refused.
        :raises InvalidRequest: a network whose shapes are another architecture's.
        """
        key = (*(id(module) for module in targets.modules()), *(request.key() for request in requests))
        if key == self._key and requests:
            return self._applied
        self.restore()
        if not requests:
            return ()
        try:
            with torch.no_grad():
                index = site_index(targets)
                self._applied = tuple(self._lay(request, index, read) for request in requests)
                self._exact.clear()
        except BaseException:
            self.restore()
            raise
        self._key = key
        return self._applied

    def restore(self) -> None:
        """Put every original back, bit for bit, on the device where the model is now."""
        for original in self._originals.values():
            original.put_back()
        for handle in self._beside:
            handle.remove()
        self._originals.clear()
        self._exact.clear()
        self._beside.clear()
        self._key, self._applied = (), ()

    def _lay(self, request: NetworkRequest, index: Mapping[str, Site], read: Read) -> AppliedNetwork:
        contents = read(request.network.path)
        unmatched: list[str] = []
        for name, weights in contents.modules.items():
            site, change = index.get(name), module_from(weights)
            if site is None or change is None:
                unmatched.append(name)
                continue
            try:
                self._change(site, change, request)
            except (RuntimeError, ValueError, IndexError) as error:
                raise InvalidRequest(
                    f"network {request.network.name!r} does not fit this model at {site.path}",
                    hint="it was made for another architecture; choose a matching checkpoint or take the tag out",
                ) from error
        return AppliedNetwork(
            network=request.network, matched=len(contents.modules) - len(unmatched), unmatched=tuple(unmatched),
            embeddings=contents.embeddings,
        )  # fmt: skip

    def _change(self, site: Site, change: NetworkModule, request: NetworkRequest) -> None:
        multiplier = request.te if site.multiplier == "te" else request.unet
        weight = self._present(site.module, "weight")
        assert weight is not None
        delta = _padded(change.delta(weight, rank=request.dyn) * multiplier, weight)
        if delta.shape != weight.shape:
            raise ValueError(f"a change of shape {tuple(delta.shape)} for a weight of {tuple(weight.shape)}")
        if request.way != "merged" and fits_beside(site.module, weight):
            on_outputs = request.way == "outputs"
            hook = Beside(change, multiplier=multiplier, rank=request.dyn, on_outputs=on_outputs)
            self._beside.append(site.module.register_forward_hook(hook))
            return
        self._replace(site.module, "weight", weight + delta)
        bias_delta = change.bias_delta(weight)
        if bias_delta is not None:
            bias = self._present(site.module, "bias") if hasattr(site.module, "bias") else None
            bias_delta = bias_delta * multiplier
            self._replace(site.module, "bias", bias_delta if bias is None else bias + bias_delta)

    def _present(self, module: nn.Module, name: str) -> Tensor | None:
        """The parameter as the networks before left it; not rounded to eight bits where a copy of more is kept."""
        found = self._exact.get((id(module), name))
        return exact_parameter(module, name) if found is None else found

    def _replace(self, module: nn.Module, name: str, value: Tensor) -> None:
        key = (id(module), name)
        if key not in self._originals:
            self._originals[key] = _Original(module, name, self._keep_on)
        stored = getattr(module, "store", None)
        if stored is not None:
            if stored.full:
                self._exact[key] = value
            value = value.to(FP8)
        setattr(module, name, nn.Parameter(value, requires_grad=False))


def _padded(delta: Tensor, weight: Tensor) -> Tensor:
    """A change made for 4 latent channels, with zeros for the 5 more of an inpainting model's first convolution."""
    if weight.dim() == 4 and weight.shape[1] == 9 and delta.dim() == 4 and delta.shape[1] == 4:
        return functional.pad(delta, (0, 0, 0, 0, 0, 5))
    return delta


class _Original:
    """A parameter put aside (or the absence of one), with where it belongs."""

    __slots__ = ("_module", "_name", "_parameter")

    def __init__(self, module: nn.Module, name: str, keep_on: torch.device | None) -> None:
        self._module, self._name = module, name
        self._parameter: nn.Parameter | None = getattr(module, name)
        if keep_on is not None and self._parameter is not None:
            self._parameter = _on(self._parameter, keep_on)

    def put_back(self) -> None:
        """Undo the replacement; the model may have moved to another device since."""
        if self._parameter is not None:
            device = getattr(self._module, self._name).device
            self._parameter = _on(self._parameter, device)
        setattr(self._module, self._name, self._parameter)


def _on(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    """The parameter itself where it is there already, else a copy there."""
    return parameter if parameter.device == device else nn.Parameter(parameter.to(device), requires_grad=False)


def bundled_embeddings(applied: Iterable[AppliedNetwork]) -> dict[str, Mapping[str, Tensor]]:
    """The embeddings that networks bring along: tensors by vector name; a later network's wins over an earlier's."""
    return {name: vectors for network in applied for name, vectors in network.embeddings.items()}
