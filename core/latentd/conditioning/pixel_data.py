"""Textual-inversion embeddings that AUTOMATIC1111 hides in pictures: in a PNG's text or in the low bits of pixels."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from latentd.types import JsonValue

MAX_JSON = 64 * 2**20
MAX_PIXELS = 64 * 2**20
TEXT_KEY = "sd-ti-embedding"


def embedding_in_picture(image: Image.Image) -> dict[str, object] | None:
    """The dictionary of the embedding in ``image``, with torch tensors; None if there is none.

    :raises ValueError: the embedding is damaged or implausibly large.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError("the picture is too large")
    text = image.info.get(TEXT_KEY)
    raw = base64.b64decode(text) if text else _hidden_bytes(np.asarray(image.convert("RGB")))
    if raw is None:
        return None
    if len(raw) > MAX_JSON:
        raise ValueError("the embedding is too large")
    data = json.loads(raw, object_hook=_tensor)
    return data if isinstance(data, dict) else None


def with_embedding(image: Image.Image, data: Mapping[str, object]) -> tuple[Image.Image, dict[str, str]]:
    """``image`` (RGB) with the embedding ``data`` in panels left and right of it, and the text entries of its PNG file.

    :func:`embedding_in_picture` finds it in either, as AUTOMATIC1111 does.

    :param data: an embedding file's dictionary, tensors among it; JSON-ready otherwise.
    """
    raw = json.dumps(data, default=_plain).encode()
    packed = np.frombuffer(zlib.compress(raw, 9), dtype=np.uint8)
    height = image.height
    columns = -(-len(packed) // (3 * height))
    filled = np.zeros(height * columns * 3, dtype=np.uint8)
    filled[: len(packed)] = packed
    mask = _stream(filled.size)
    low, high = ((half & 0x0F ^ mask & 0x0F).reshape(height, columns, 3) for half in (filled, filled >> 4))
    divider = np.zeros((height, 1, 3), dtype=np.uint8)
    # The upper bits are for the eye alone: what lies in a panel shows as a dim grain, never as the black of a border.
    panels = [half | 0x10 for half in (low, high)]
    pixels = np.asarray(image.convert("RGB"))
    # In the picture itself no column may look like a divider: its low bits are never all zero.
    seen = pixels.copy()
    bare = (seen & 0x0F).sum(axis=(0, 2)) == 0
    seen[:, bare] |= 1
    whole = np.concatenate([panels[0], divider | 0x10, seen, divider | 0x10, panels[1]], axis=1)
    return Image.fromarray(whole), {TEXT_KEY: base64.b64encode(raw).decode("ascii")}


def _plain(value: object) -> JsonValue:
    if isinstance(value, torch.Tensor):
        return {"TORCHTENSOR": value.detach().float().cpu().tolist()}
    raise TypeError(f"a value of type {type(value).__name__} cannot be hidden in a picture")


def _hidden_bytes(pixels: NDArray[np.uint8]) -> bytes | None:
    """The data in the picture's two side panels, decompressed; None if it has no panels.

    The panels are to the left and right of the picture itself, separated from it by columns whose low four bits are all
    zero. The left one has the low half of every byte, the right one the high half; both are scrambled by one stream.
    """
    low = _without_black_border(pixels) & 0x0F
    dividers = np.flatnonzero(low.sum(axis=(0, 2)) == 0) if low.size else np.empty(0, dtype=np.intp)
    if len(dividers) < 2:
        return None
    left, right = low[:, : dividers[0]], low[:, dividers[-1] + 1 :]
    if left.shape != right.shape or left.size == 0:
        return None
    mask = _stream(left.size).reshape(left.shape) & 0x0F
    packed = ((right ^ mask) << 4 | (left ^ mask)).astype(np.uint8).tobytes()
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(packed, MAX_JSON)
    except zlib.error:
        return None
    return raw if inflater.eof else None


def _without_black_border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bright = np.asarray((pixels > 0).all(axis=2))
    columns, rows = np.flatnonzero(bright.sum(axis=0)), np.flatnonzero(bright.sum(axis=1))
    if len(columns) == 0:
        return pixels[:0, :0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _stream(count: int) -> NDArray[np.uint8]:
    """``count`` values of the linear congruential generator (1664525, 1013904223, modulus 2**32) from 0, modulo 255."""
    values = np.empty(count, dtype=np.uint8)
    state = 0
    for index in range(count):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        values[index] = state % 255
    return values


def _tensor(entry: dict[str, JsonValue]) -> object:
    if set(entry) == {"TORCHTENSOR"}:
        return torch.tensor(entry["TORCHTENSOR"], dtype=torch.float32)
    return entry
