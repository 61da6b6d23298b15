"""Weight files in pickle form, read through an allow-list: no code of the file's choosing ever runs.

torch's weights-only unpickler does the reading. Its own list (tensors, storages, dtypes, ``OrderedDict``) is extended
by numpy's scalars and arrays, which old embeddings and checkpoints hold, and by inert stand-ins for the training
callbacks that checkpoints carry along; anything else is refused by name.
"""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentd.errors import ModelLoadError

DEFAULT_MAX_BYTES = 64 * 2**30


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
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelLoadError(f"{path.name} is larger than {max_bytes} bytes")
    try:
        mapped = _is_plain_zip(path)
        with torch.serialization.safe_globals(_ALLOWED):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except ModelLoadError:
        raise
    except Exception as error:  # whatever a damaged or hostile pickle provokes is the file's fault
        reason = " ".join(str(error).split())
        hint = "the file asks for a type that a weight file has no need of" if "Unsupported" in reason else None
        raise ModelLoadError(f"{path.name} cannot be read as a weight file: {reason[:300]}", hint=hint) from error
    if not isinstance(data, dict):
        raise ModelLoadError(f"{path.name} holds a {type(data).__name__} where a dictionary of tensors was expected")
    return data


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
