"""Applying networks to a loaded model's weights, and removing them again exactly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from latentd.models.modules.fp8 import FP8, exact_parameter
from latentd.networks.beside import Beside, fits_beside
from latentd.networks.contents import NetworkContents, read_network
from latentd.networks.files import NetworkOnDisk
from latentd.networks.modules import NetworkModule, module_from
from latentd.networks.names import ATTENTION_PARTS, Site, SiteIndex, Targets
from latentd.networks.spellings import ModuleName

log = logging.getLogger(__name__)

ApplyMode = Literal["merged", "beside", "outputs"]
Read = Callable[[Path], NetworkContents]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """One tag of a prompt with its file found.

    :param network: the file.
    :param te: multiplier for the text encoders.
    :param unet: multiplier for the UNet.
    :param dyn: how many ranks to use; None for all.
    :param mode: ``merged`` into the weights; ``beside`` each layer at every call; or ``outputs``: beside, and fed
        with the layer's output if it has the input's shape.
    :param as_original: leave out the modules that AUTOMATIC1111 1.8 leaves out, and reshape what it reshapes.
    """

    network: NetworkOnDisk
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    mode: ApplyMode = "merged"
    as_original: bool = True

    def key(self) -> tuple[object, ...]:
        """A value that is equal for requests with equal effect."""
        return (self.network.path, self.network.stamp, self.te, self.unet, self.dyn, self.mode, self.as_original)


class Reason(StrEnum):
    """Why a module of a file was not changed."""

    UNKNOWN = "not in this model"
    MISSHAPEN = "of another shape here"
    UNTYPED = "with weights of no known kind"
    PASSED_OVER = "passed over as AUTOMATIC1111 does (option lora_as_automatic1111)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedNetwork:
    """The effect of one request: how many modules it changed, and the names of those that it did not, by reason.

    Names are spelled as in the file. ``embeddings`` are those in the file, by name; ``kind`` is what the file looks
    like; ``unread`` lists patterns for alpha in its header that are ignored, ``ignored`` tensors of modules of a known
    type that mean nothing to the type.
    """

    network: NetworkOnDisk
    matched: int
    left_out: Mapping[Reason, tuple[str, ...]]
    embeddings: Mapping[str, Mapping[str, object]]
    kind: str | None = None
    unread: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Modules in the file."""
        return self.matched + sum(map(len, self.left_out.values()))

    def shortfall(self) -> str:
        """Why modules were left out, with counts and an example each; empty when all were changed."""
        return "; ".join(f"{len(names)} {why}, such as {names[0]}" for why, names in self.left_out.items())


class NetworkState:
    """The networks applied to one loaded model; belongs to the model's cache entry.

    Weights are never overwritten: a changed module gets a new parameter and its own is kept, so that networks are
    removed exactly. Not for use by two threads at once.

    :param keep_on: device on which original parameters are kept (``cpu`` saves a GPU's memory); None for their own.
    """

    def __init__(self, *, keep_on: torch.device | str | None = None) -> None:
        self._keep_on = torch.device(keep_on) if keep_on is not None else None
        self._originals: dict[tuple[int, str], _Original] = {}
        self._exact: dict[tuple[int, str], Tensor] = {}
        self._beside: list[RemovableHandle] = []
        self._key: tuple[object, ...] = ()
        self._applied: tuple[AppliedNetwork, ...] = ()

    @property
    def applied(self) -> tuple[AppliedNetwork, ...]:
        """The networks that are applied to the model now."""
        return self._applied

    def apply(
        self, targets: Targets, requests: Sequence[NetworkRequest], *, read: Read = read_network
    ) -> tuple[AppliedNetwork, ...]:
        """Apply exactly ``requests`` to the model, in order; nothing happens if they are applied already.

        W' = W + Σ m·s·ΔW, network after network in the model's dtype. After an error the model is as it was loaded.
        Modules that do not fit are left out, as in AUTOMATIC1111; the result lists them for the caller to judge.

        :param read: returns the contents of a file.
        :raises ModelLoadError: a file is damaged or refused.
        """
        key = (*(id(module) for module in targets.modules()), *(request.key() for request in requests))
        if key == self._key and requests:
            return self._applied
        self.restore()
        if not requests:
            return ()
        try:
            with torch.no_grad():
                index = SiteIndex(targets)
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

    def _lay(self, request: NetworkRequest, index: SiteIndex, read: Read) -> AppliedNetwork:
        contents = read(request.network.path)
        sites = {name: index.find(name) for name in contents.modules}
        passed_over = _passed_over(index, sites) if request.as_original else frozenset()
        left_out: dict[Reason, list[str]] = {}
        ignored: list[str] = []
        for name, weights in contents.modules.items():
            change = module_from(weights)
            ignored += [f"{name.spelling}.{tensor}" for tensor in change.unread()] if change else []
            if not sites[name]:
                reason = Reason.UNKNOWN
            elif change is None:
                reason = Reason.UNTYPED
            elif name in passed_over:
                reason = Reason.PASSED_OVER
            elif any(self._fits(site, change, request) for site in sites[name]):
                continue
            else:
                reason = Reason.MISSHAPEN
            left_out.setdefault(reason, []).append(name.spelling)
        return AppliedNetwork(
            network=request.network,
            matched=len(contents.modules) - sum(map(len, left_out.values())),
            left_out={reason: tuple(names) for reason, names in left_out.items()},
            embeddings=contents.embeddings,
            kind=contents.kind,
            unread=contents.unread,
            ignored=tuple(ignored),
        )

    def _fits(self, site: Site, change: NetworkModule, request: NetworkRequest) -> bool:
        """Apply the change to the module if it fits; returns whether it did."""
        try:
            self._change(site, change, request)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            log.debug("network %s at %s: %s", request.network.name, site.path, error)
            return False
        return True

    def _change(self, site: Site, change: NetworkModule, request: NetworkRequest) -> None:
        multiplier = request.te if site.multiplier == "te" else request.unet
        weight = self._present(site.module, "weight")
        assert weight is not None
        delta = _padded(change.delta(weight, rank=request.dyn, reshape=request.as_original) * multiplier, weight)
        if delta.shape != weight.shape:
            raise ValueError(f"a change of shape {tuple(delta.shape)} for a weight of {tuple(weight.shape)}")
        if request.mode != "merged" and fits_beside(site.module, weight):
            on_outputs = request.mode == "outputs"
            hook = Beside(change, multiplier=multiplier, rank=request.dyn, on_outputs=on_outputs)
            self._beside.append(site.module.register_forward_hook(hook))
            return
        bias_delta = change.bias_delta(weight)
        bias = None
        if bias_delta is not None:
            bias = self._present(site.module, "bias") if hasattr(site.module, "bias") else None
            bias_delta = (bias_delta if bias is None else bias_delta.reshape(bias.shape)) * multiplier
        self._replace(site.module, "weight", weight + delta)
        if bias_delta is not None:
            self._replace(site.module, "bias", bias_delta if bias is None else bias + bias_delta)

    def _present(self, module: nn.Module, name: str) -> Tensor | None:
        """The parameter after the networks so far; taken from the copy of more than eight bits if one is kept."""
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


def _passed_over(index: SiteIndex, sites: Mapping[ModuleName, Sequence[Site]]) -> frozenset[ModuleName]:
    """The names that AUTOMATIC1111 1.8 leaves out.

    They are names that its rules map to no module, and parts of an OpenCLIP attention that is not changed as a whole.
    """
    joined: dict[str, list[ModuleName]] = {}
    for name, found in sites.items():
        if name.kohya and found and found[0].joined is not None:
            joined.setdefault(found[0].joined, []).append(name)
    incomplete = (name for parts in joined.values() if len(parts) < ATTENTION_PARTS for name in parts)
    return frozenset((*incomplete, *(name for name in sites if index.is_dropped(name))))


def _padded(delta: Tensor, weight: Tensor) -> Tensor:
    """A change for 4 latent channels, with zeros for the 5 further channels of an inpainting model's first layer."""
    if weight.dim() == 4 and weight.shape[1] == 9 and delta.dim() == 4 and delta.shape[1] == 4:
        return functional.pad(delta, (0, 0, 0, 0, 0, 5))
    return delta


class _Original:
    """An original parameter (or the absence of one) and its place."""

    __slots__ = ("_module", "_name", "_parameter")

    def __init__(self, module: nn.Module, name: str, keep_on: torch.device | None) -> None:
        self._module, self._name = module, name
        self._parameter: nn.Parameter | None = getattr(module, name)
        if keep_on is not None and self._parameter is not None:
            self._parameter = _on(self._parameter, keep_on)

    def put_back(self) -> None:
        """Undo the replacement, also if the model has moved to another device since."""
        if self._parameter is not None:
            device = getattr(self._module, self._name).device
            self._parameter = _on(self._parameter, device)
        setattr(self._module, self._name, self._parameter)


def _on(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    """The parameter itself if it is on ``device``, else a copy there."""
    return parameter if parameter.device == device else nn.Parameter(parameter.to(device), requires_grad=False)
