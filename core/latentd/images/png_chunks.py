"""Long texts and profiles inside PNG files, which Pillow's reader takes for bombs and refuses the picture for."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PILLOWS_LONGEST = 1 << 20
"""Bytes to which Pillow unpacks one chunk."""
LONGEST = 16 << 20
"""Bytes of one text that is kept; the workflow of a picture that ComfyUI made may have a few millions."""
BUDGET = 48 << 20
"""Bytes that are unpacked or kept of all texts and profiles of one file."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """``size``: bytes that the chunk has cost. ``replacement``: None leaves it, nothing drops it."""

    size: int
    replacement: bytes | None = None


def readable_chunks(data: bytes) -> bytes:
    """``data``, or the same PNG file with chunks that Pillow can read.

    A packed text over :data:`PILLOWS_LONGEST` is put unpacked, a profile that long left out (nothing here uses
    profiles), and a text beyond :data:`LONGEST`, or beyond :data:`BUDGET` together with those before it, left out with
    a warning. Nothing is unpacked beyond these bounds. Other files, and damaged ones, come back as they are.
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
    """The bytes in a zlib stream; None where they are more than ``limit``; nothing where it is damaged."""
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(packed, limit + 1)
    except zlib.error:
        return b""
    return text if len(text) <= limit else None


def _made(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
