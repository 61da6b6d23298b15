"""Long texts and profiles in PNG files. Pillow takes them for decompression bombs and refuses the whole picture."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PILLOWS_LONGEST = 1 << 20
"""Most bytes that Pillow decompresses from one chunk."""
LONGEST = 16 << 20
"""Most bytes of one text that is kept; a workflow that ComfyUI writes into a picture can have a few million."""
BUDGET = 48 << 20
"""Most bytes that are decompressed or kept of all texts and profiles of one file together."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of a chunk: ``replacement`` None keeps it, empty bytes drop it; ``size`` is its cost in bytes."""

    size: int
    replacement: bytes | None = None


def readable_chunks(data: bytes) -> bytes:
    """``data``, or the same PNG file with chunks that Pillow can read.

    A compressed text over :data:`PILLOWS_LONGEST` is replaced by a plain one, and a profile of that length is left out
    (latentd uses no profiles). A text over :data:`LONGEST`, or one that takes the file over :data:`BUDGET`, is left out
    with a warning. Nothing is decompressed beyond these bounds. Other files, and damaged ones, are returned unchanged.
    """
    if not data.startswith(SIGNATURE):
        return data
    budget, start = BUDGET, 0
    kept: list[bytes] = []
    for chunk in _chunks(data):
        body = data[chunk.start + 8 : chunk.end - 4]
        if chunk.kind in _TEXTS:
            verdict = _text(chunk.kind, body, min(LONGEST, budget))
        elif chunk.kind == b"iCCP":
            verdict = _profile(body, min(PILLOWS_LONGEST, budget))
        else:
            continue
        budget -= min(verdict.size, budget)
        if verdict.replacement is not None:
            kept += [data[start : chunk.start], verdict.replacement]
            start = chunk.end
    return b"".join([*kept, data[start:]]) if kept else data


def _chunks(data: bytes) -> Iterator[_Chunk]:
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield _Chunk(data[start + 4 : start + 8], start, end)
        start = end


def _profile(body: bytes, limit: int) -> _Verdict:
    profile = _unpacked(body.partition(b"\0")[2][1:], limit)
    return _Verdict(limit, b"") if profile is None else _Verdict(len(profile))


def _text(kind: bytes, body: bytes, limit: int) -> _Verdict:
    key, _, rest = body.partition(b"\0")
    head, packed = b"", b""
    if kind == b"zTXt" and rest[:1] == b"\0":
        kind, packed = b"tEXt", rest[1:]
    elif kind == b"iTXt" and rest[:2] == b"\1\0":
        language, _, rest = rest[2:].partition(b"\0")
        translated, _, packed = rest.partition(b"\0")
        head = b"\0\0" + language + b"\0" + translated + b"\0"
    text = _unpacked(packed, limit) if packed else rest if len(rest) <= limit else None
    if text is None:
        log.warning("a PNG's text %r is left out: it has over %d bytes", key[:80], limit)
        return _Verdict(limit if packed else 0, b"")
    is_long = bool(packed) and len(text) > PILLOWS_LONGEST
    return _Verdict(len(text), _made(kind, key + b"\0" + head + text) if is_long else None)


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    """The bytes in a zlib stream: None if there are more than ``limit``, empty if the stream is damaged."""
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(packed, limit + 1)
    except zlib.error:
        return b""
    return text if len(text) <= limit else None


def _made(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
