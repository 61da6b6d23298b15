"""Conversion of a weight file in pickle form to safetensors.

Each storage becomes a tensor of one dimension, and the description goes into the metadata. Bytes are copied unchanged,
so types and values stay the same, and tensors that share memory still share it.
"""

from __future__ import annotations

import json
import os
from io import BufferedReader
from pathlib import Path

from latentd.models.files.pickles.describe import Description
from latentd.models.files.pickles.stand_ins import ITEM_BYTES
from latentd.models.files.safetensors_header import MAX_CONTAINERS, MAX_HEADER

#: The entry of ``__metadata__`` that holds the description.
DESCRIPTION = "latentd"
_CHUNK = 4 << 20
_ALIGNED = 64
#: safetensors' names of types; a type without a name there is stored as bytes.
_NAMES = {
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "float16": "F16", "bfloat16": "BF16"},
    **{"int32": "I32", "float32": "F32", "int64": "I64", "float64": "F64", "complex64": "C64"},
}


def write_safetensors(description: Description, source: BufferedReader, target: Path, most: int) -> bool:
    """Write the storages of ``source`` and their ``description`` to the new file ``target``, private to this user.

    :param most: bytes that may be written.
    :returns: False, with nothing written, if the file would be larger, or its header longer than headers may be.
    :raises OSError: the disk is full, or the folder cannot be written; no file is left behind.
    """
    # Storages of larger elements come first: each then begins at a multiple of its element size, without gaps.
    order = sorted(range(len(description.storages)), key=lambda n: -ITEM_BYTES[description.storages[n][0]])
    header = _header(description, order)
    is_readable = len(header) <= MAX_HEADER and header.count(b"[") + header.count(b"{") <= MAX_CONTAINERS
    if not is_readable or len(header) + sum(nbytes for _, nbytes in description.storages) > most:
        return False
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            _write(file.fileno(), len(header).to_bytes(8, "little") + header)
            for number in order:
                place = description.sources[number]
                if isinstance(place, bytes):
                    _write(file.fileno(), place)
                else:
                    _copy(source, place, description.storages[number][1], file.fileno())
            # Without this, a power cut could leave a file of zeros that looks like weights.
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return True


def _header(description: Description, order: list[int]) -> bytes:
    """The header, padded so that the tensors begin at a multiple of 64 bytes."""
    text = json.dumps(description.as_json(inline=False), separators=(",", ":"))
    header: dict[str, object] = {"__metadata__": {DESCRIPTION: text}}
    begin = 0
    for number in order:
        dtype, nbytes = description.storages[number]
        name = _NAMES.get(dtype, "U8")
        count = nbytes // ITEM_BYTES[dtype] if dtype in _NAMES else nbytes
        header[str(number)] = {"dtype": name, "shape": [count], "data_offsets": [begin, begin + nbytes]}
        begin += nbytes
    data = json.dumps(header, separators=(",", ":")).encode()
    return data + b" " * (-(8 + len(data)) % _ALIGNED)


def _copy(source: BufferedReader, place: int, count: int, target: int) -> None:
    source.seek(place)
    while count:
        data = source.read(min(count, _CHUNK))
        if not data:
            raise ValueError("the file became shorter while it was read")
        _write(target, data)
        count -= len(data)


def _write(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
