"""Weight files in pickle form, read through an allow-list: no code of the file's choosing ever runs.

Each pickle is walked first (:mod:`latentd.models.files.pickle_walk`), which bounds what it may build. Then torch's
weights-only unpickler, which is written in Python, reads it. Its own list (tensors, storages, dtypes, ``OrderedDict``)
is extended by numpy's scalars and arrays, which old embeddings and checkpoints hold, and by inert stand-ins for the
training callbacks that checkpoints carry along; anything else is refused by name.
"""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentd.errors import ModelLoadError
from latentd.models.files.file_kinds import unreadable
from latentd.models.files.pickle_walk import PickleRefused, walk_pickle
from latentd.regular import check_regular, open_regular

DEFAULT_MAX_BYTES = 64 * 2**30
#: A file of torch before 1.6: magic number, protocol, system, the object, the names of its storages; then raw bytes.
LEGACY_PICKLES = 5
#: Tensors may share storages (tied weights) or repeat a value, but not so that copies of them fill the memory: together
#: they are at most so many times as large as the file, and so many bytes.
MAX_SHARED = 4
ALLOWANCE = 1 << 30


class Inert:
    """Stands in for a class that files mention beside their weights: holds the state they give it, does nothing."""

    def __init__(self, *_args: Any) -> None: ...


# numpy's own constructors, whose module moved between its versions.
_reconstruct = np.zeros(1).__reduce__()[0]
_scalar = np.float32(0).__reduce__()[0]
_DTYPES = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]
_ALLOWED: list[Any] = [
    np.ndarray,
    np.dtype,
    *_DTYPES,
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (codecs.encode, "_codecs.encode"),
    (torch.nn.ParameterDict, "torch.nn.modules.container.ParameterDict"),
    (Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (Inert, "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"),
    (Inert, "ldm.callbacks.LoggingCallback"),
]


def load_pickle(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> dict[Any, Any]:
    """The dictionary that ``path`` holds; tensors lie on the CPU, mapped from the file where its form allows.

    :param max_bytes: the largest file that is opened.
    :raises ModelLoadError: the file is damaged, too large, not a dictionary, or mentions a type off the list.
    """
    check_regular(path)
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelLoadError(f"{path.name} is larger than {max_bytes} bytes")
    try:
        mapped = _is_plain_zip(path)
        _walk(path, size=size, is_zip=mapped)
        with torch.serialization.safe_globals(_ALLOWED):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except ModelLoadError:
        raise
    except PickleRefused as error:
        found = unreadable(path, "cannot be read as a weight file", error)
        found.hint = found.hint or "no weight file has need of that"
        raise found from error
    except Exception as error:  # whatever a damaged or hostile pickle provokes is the file's fault
        found = unreadable(path, "cannot be read as a weight file", error)
        if found.hint is None and "Unsupported" in str(error):
            found.hint = "the file asks for a type that a weight file has no need of"
        raise found from error
    if not isinstance(data, dict):
        raise ModelLoadError(f"{path.name} holds a {type(data).__name__} where a dictionary of tensors was expected")
    _check_tensors(data, path.name, size)
    return data


def _walk(path: Path, *, size: int, is_zip: bool) -> None:
    """Walk every pickle of the file.

    :raises PickleRefused: one of them goes beyond what a weight file needs.
    """
    if not is_zip:
        with open_regular(path) as file:
            for _ in range(LEGACY_PICKLES):
                walk_pickle(file, size=size)
                if not file.peek(1):
                    break
        return
    with zipfile.ZipFile(path) as archive:
        # torch finds members by name whatever their case.
        for member in archive.infolist():
            if member.filename.lower().endswith(".pkl"):
                with archive.open(member) as pickle:
                    walk_pickle(pickle, size=size)


def _check_tensors(data: Any, name: str, size: int) -> None:
    """Refuse tensors that together are far larger than the file that they come from.

    A stride of 0 lets four bytes be a tensor of any size, and a storage may be named any number of times; both are made
    when something copies them.

    :raises ModelLoadError: so large a sum, or a tensor of a layout that weight files do not have.
    """
    waiting, seen, total = [data], set[int](), 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
                raise ModelLoadError(f"{name} holds a tensor of a kind that weight files do not have")
            total += value.nbytes
            if total > MAX_SHARED * size + ALLOWANCE:
                raise ModelLoadError(f"{name} holds tensors of {total} bytes, far more than the file")
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _is_plain_zip(path: Path) -> bool:
    """Whether ``path`` is a zip archive that can be mapped: mapping bounds every tensor by the file itself.

    :raises ModelLoadError: an archive with compressed members, whose size only its writer knows.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ModelLoadError(f"{path.name} is a compressed archive, which no tool writes as a weight file")
    return True
