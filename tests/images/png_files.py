"""PNG files made by hand: depths and chunks that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(levels: NDArray[np.uint8] | NDArray[np.uint16], extra: Sequence[bytes] = ()) -> bytes:
    """A PNG of ``levels`` [h,w] or [h,w,channels] at their own depth; ``extra`` chunks stand before its pixels."""
    height, width = levels.shape[:2]
    rows = levels.reshape(height, width, -1)
    depth = levels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth * 8, _COLOUR_TYPES[rows.shape[2]], 0, 0, 0)
    data = b"".join(b"\0" + row.astype(f">u{depth}").tobytes() for row in rows)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
