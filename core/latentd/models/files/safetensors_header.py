"""The JSON header of a safetensors file: read without the weights, and checked against the file, without torch.

8 bytes of its length (little endian), the header, then the tensors' bytes one after another. An entry of the header is
``name: {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}``, offsets counted from the header's end.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TypeGuard

from latentd.errors import ModelLoadError
from latentd.models.files.file_kinds import unreadable
from latentd.regular import is_regular, open_regular
from latentd.types import JsonValue

MAX_HEADER = 32 << 20
#: Most objects and lists in a header; each takes far more memory than its bytes in the file.
MAX_CONTAINERS = 2_000_000
MAX_DIMENSIONS = 16
METADATA = "__metadata__"
_UNFIT = "is not a readable safetensors file"
#: Bits of an element by type; other types are checked by the library.
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


def read_header(path: Path) -> dict[str, JsonValue]:
    """The JSON header of ``path``.

    :raises ModelLoadError: no such header, or one of unreasonable size.
    """
    with _errors(path), open_regular(path) as file:
        return _read(file, path)[0]


def check_header(path: Path) -> None:
    """Check the header of a file whose name ends in ``.safetensors`` against the file.

    Every tensor must lie within the file, be as large as its shape and type say, and overlap no other; no byte may be
    left over.

    :raises ModelLoadError: the file is of another kind or cut off, or its header is wrong; the message names the file
        and the tensor.
    """
    if path.suffix.lower() == ".safetensors":
        check_layout(path)


def check_layout(path: Path) -> None:
    """:func:`check_header` whatever the file's name ends with."""
    checked_header(path)


def checked_header(path: Path) -> dict[str, JsonValue]:
    """The JSON header of ``path``, held against the file (:func:`check_header`).

    :raises ModelLoadError: as there, or the file is missing.
    """
    with _errors(path), open_regular(path) as file:
        return read_checked(file, path)[0]


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its name or, where it has that of a pickle, by its beginning.

    :raises ModelLoadError: it cannot be read.
    """
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with open_regular(path) as file:
            start = file.read(9)
            size = file.seek(0, 2)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error}") from error
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size


def read_checked(file: BufferedReader, path: Path) -> tuple[dict[str, JsonValue], int]:
    """The header of an open file, held against it (:func:`check_layout`), and where the tensors' bytes begin.

    :raises ModelLoadError: it is something else, was cut off, or its header lies; names ``path`` and the tensor.
    """
    with _errors(path):
        header, start, left = _read(file, path)
    spans = []
    for name, entry in header.items():
        if name != METADATA:
            begin, end = _span(path, name, entry)
            if end > left:
                raise _lie(path, f"tensor {name[:100]!r} ends at byte {end} of {left}; it is cut off")
            spans.append((begin, end, name))
    reached = 0
    for begin, end, name in sorted(spans):
        if begin != reached:
            wrong = "overlaps another" if begin < reached else f"begins {begin - reached} bytes late"
            raise _lie(path, f"tensor {name[:100]!r} {wrong}")
        reached = end
    if reached != left:
        raise _lie(path, f"{left - reached} bytes belong to no tensor")
    return header, start


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The text entries in the header of a safetensors file; empty for any other file and for a damaged one."""
    if not is_regular(path):
        return {}
    try:
        found = read_header(path).get(METADATA)
    except ModelLoadError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """:raises ModelLoadError: in place of whatever a file that is none provokes."""
    try:
        yield
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, _UNFIT, error) from error


def _read(file: BufferedReader, path: Path) -> tuple[dict[str, JsonValue], int, int]:
    """The header, where it ends, and the bytes behind it."""
    size = file.seek(0, 2)
    file.seek(0)
    length = _length(path, file, size)
    return _parsed(file.read(length)), 8 + length, size - 8 - length


def _length(path: Path, file: BufferedReader, size: int) -> int:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise unreadable(path, _UNFIT, f"its header's length is {length}")
    return length


def _parsed(data: bytes) -> dict[str, JsonValue]:
    """The JSON object of a header.

    :raises ValueError: it is not a JSON object, or has too many lists and objects.
    """
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise ValueError(f"its header holds more than {MAX_CONTAINERS} lists and objects")
    header = json.loads(data)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def _span(path: Path, name: str, entry: object) -> tuple[int, int]:
    """(begin, end) of one tensor's bytes.

    :raises ModelLoadError: the entry is incomplete, or its size does not fit its shape.
    """
    said = entry if isinstance(entry, dict) else {}
    shape, offsets, dtype = said.get("shape"), said.get("data_offsets"), said.get("dtype")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise _lie(path, f"tensor {name[:100]!r} lacks its type, its shape or its place")
    begin, end = offsets
    bits = _BITS.get(dtype)
    if end < begin or (bits is not None and math.prod(shape) * bits != (end - begin) * 8):
        raise _lie(path, f"tensor {name[:100]!r} of shape {shape} does not fit {end - begin} bytes")
    return begin, end


def _lie(path: Path, words: str) -> ModelLoadError:
    return ModelLoadError(f"{path.name} {_UNFIT}: {words}", hint="it was cut off or damaged; get or make it again")


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 2**63 for part in value)
    )
