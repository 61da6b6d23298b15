"""Weight files as mappings from key to tensor, opened without reading the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from latentd.errors import ModelLoadError
from latentd.models.files.file_kinds import unreadable
from latentd.models.files.pickles.values import PickleValue
from latentd.models.files.safetensors_header import check_layout, is_safetensors, safetensors_metadata
from latentd.models.files.shapes import unwrapped
from latentd.models.files.unpickle import load_pickle
from latentd.regular import is_regular, open_regular

Shapes = Mapping[str, tuple[int, ...]]

#: Infinite in float32. A whole number in a pickle may be too large for any float.
_INFINITE = 1e300
_NAN_HINT = "the file was damaged when it was trained, merged or converted; get or make it again"


class TensorFile(Protocol):
    """What gives tensors one by one."""

    def get_tensor(self, name: str) -> Tensor:
        """The tensor ``name``."""


class StateDict(Mapping[str, Tensor]):
    """Key → tensor of one file; a tensor is read when it is used (on the CPU, with the file's dtype).

    Reading a tensor of nothing but NaN raises :class:`ModelLoadError`, because all pictures would be black.


    :param metadata: the header's text entries of a safetensors file, else empty.
    """

    def __init__(
        self, name: str, tensors: Mapping[str, Tensor] | TensorFile, shapes: Shapes, metadata: Mapping[str, str]
    ) -> None:
        self.name = name
        self.shapes = shapes
        self.metadata = metadata
        self._tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.shapes:
            raise KeyError(key)
        if isinstance(self._tensors, _Renamed):
            return self._tensors[key]
        tensor = self._tensors[key] if isinstance(self._tensors, Mapping) else self._tensors.get_tensor(key)
        if _is_nan(tensor):
            raise ModelLoadError(f"{self.name}: tensor {key!r} holds no number but NaN", hint=_NAN_HINT)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; reads them."""
        return sum(tensor.nbytes for tensor in self.values())

    def below(self, prefix: str) -> StateDict:
        """The entries whose keys begin with ``prefix``, with the prefix removed."""
        keys = {key[len(prefix) :]: key for key in self.shapes if key.startswith(prefix)}
        return self.renamed(keys)

    def renamed(self, keys: Mapping[str, str]) -> StateDict:
        """The same tensors with other names; ``keys`` maps new keys to the keys of this object."""
        shapes = {new: self.shapes[old] for new, old in keys.items()}
        return StateDict(self.name, _Renamed(self, keys), shapes, self.metadata)


class _Renamed(Mapping[str, Tensor]):
    def __init__(self, source: StateDict, keys: Mapping[str, str]) -> None:
        self._source = source
        self._keys = keys

    def __getitem__(self, key: str) -> Tensor:
        return self._source[self._keys[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def open_state_dict(path: Path, *, mapped: bool = True) -> StateDict:
    """The weights in ``path`` (.safetensors, else a pickle), mapped where the format allows.

    A dictionary nested under ``state_dict`` (Lightning) or ``params`` (upscalers) is unwrapped; what is not a tensor is
    left out, but for alpha, which some trainers pickle as a plain number.

    :param mapped: False reads a safetensors file whole, which is quicker from some network disks.
    :raises ModelLoadError: the file is missing, damaged or refused by the unpickler.
    """
    if not is_regular(path):
        raise ModelLoadError(f"model file {path.name} does not exist")
    if is_safetensors(path):
        return _open_safetensors(path) if mapped else _read_safetensors(path)
    return from_tensors(path.name, dict(_tensors_of(unwrapped(load_pickle(path)))))


def _tensors_of(data: Mapping[PickleValue, PickleValue]) -> Iterator[tuple[str, Tensor]]:
    for key, value in data.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, int | float) and key.endswith(".alpha"):
            yield key, torch.tensor(float(max(-_INFINITE, min(value, _INFINITE))))


def from_tensors(name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> StateDict:
    """A :class:`StateDict` over tensors already in memory."""
    return StateDict(name, tensors, {key: tuple(value.shape) for key, value in tensors.items()}, metadata or {})


def in_memory(weights: StateDict) -> StateDict:
    """The same weights, copied from their file into memory."""
    return from_tensors(weights.name, {key: weights[key].clone() for key in weights}, weights.metadata)


def _open_safetensors(path: Path) -> StateDict:
    check_layout(path)
    try:
        handle: Any = safe_open(path, framework="pt")  # without types
        keys = handle.keys()
        shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in keys}
        return StateDict(path.name, handle, shapes, handle.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise unreadable(path, "is not a readable safetensors file", error) from error


def _read_safetensors(path: Path) -> StateDict:
    check_layout(path)
    try:
        with open_regular(path) as file:
            tensors = load(file.read())
    except (SafetensorError, OSError) as error:
        raise unreadable(path, "is not a readable safetensors file", error) from error
    return from_tensors(path.name, tensors, safetensors_metadata(path))


def _is_nan(tensor: Tensor) -> bool:
    """Whether every element is NaN; for most tensors the first element decides."""
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return False
    return bool(tensor[(0,) * tensor.ndim].float().isnan()) and bool(tensor.float().isnan().all())
