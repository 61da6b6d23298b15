"""Names and shapes of the tensors in a weight file, read without torch and without the weights."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from latentd.api import open_regular, read_header, walk_pickle

Shapes = dict[str, tuple[int, ...]]

_MOST_BYTES = 1 << 25
_NESTED = ("params_ema", "params", "state_dict", "model_state_dict")
_LEGACY_HEAD = 3  # magic number, protocol version and system information come before the dictionary


def read_shapes(path: Path) -> Shapes:
    """Key → shape of the tensors in ``path`` (safetensors or pickle); empty if the file cannot be read in this way."""
    try:
        if path.suffix.lower() == ".safetensors":
            return _from_safetensors(path)
        with open_regular(path) as file:
            if zipfile.is_zipfile(file):
                return _from_archive(file)
            file.seek(0)
            return _from_legacy(file)
    except Exception:  # a damaged file gets no shapes here; its error is reported when it is used
        return {}


def _from_safetensors(path: Path) -> Shapes:
    return {key: tuple(entry["shape"]) for key, entry in read_header(path).items() if key != "__metadata__"}


def _from_archive(file: BinaryIO) -> Shapes:
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith("/data.pkl") and member.file_size <= _MOST_BYTES:
                return _flat(_load(io.BytesIO(archive.read(member)), size))
    return {}


def _from_legacy(file: BinaryIO) -> Shapes:
    size = file.seek(0, 2)
    file.seek(0)
    for _ in range(_LEGACY_HEAD):
        _load(file, size)
    return _flat(_load(file, size))


def _load(file: BinaryIO, size: int) -> object:
    """The next pickle of ``file``; its instructions are checked before it is read, because the unpickler follows them.

    :param size: bytes of the whole weight file, which no storage may exceed.
    """
    start = file.tell()
    walk_pickle(file, size=size)
    file.seek(start)
    return _ShapeReader(file).load()


def _flat(data: object) -> Shapes:
    if not isinstance(data, dict):
        return {}
    inner = next((data[name] for name in _NESTED if isinstance(data.get(name), dict)), data)
    return {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, tuple)}


class _Nothing:
    """Replaces every class that the file names, so that no code of the file's choice runs."""

    def __init__(self, *arguments: object) -> None: ...


def _tensor(storage: object, offset: object, size: Iterable[int], *rest: object) -> tuple[int, ...]:
    return tuple(size)


def _parameter(data: object, *rest: object) -> object:
    return data


_READ: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): OrderedDict,
}


class _ShapeReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        return _READ.get((module, name), _Nothing)

    def persistent_load(self, pid: object) -> None:
        return None
