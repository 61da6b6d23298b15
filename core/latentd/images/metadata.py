"""The infotext and the other text entries that a picture file carries (semantics 13.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

_USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769
_NOISE = frozenset(
    (
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "loop", "background", "timestamp"),
        *("duration", "progressive", "progression", "icc_profile", "chromaticity", "photoshop"),
    )
)
"""Facts about the container, of no interest to a reader of infotexts."""


def read_metadata(
    image: Image.Image, *, sampler_aliases: Mapping[str, str] | None = None
) -> tuple[str | None, dict[str, Any]]:
    """``(infotext, items)`` of a decoded picture; the infotext is None where there is none, items are JSON-ready.

    An EXIF UserComment wins over a ``parameters`` text; a GIF's comment serves where neither is there.

    :param sampler_aliases: NovelAI's sampler names to ours, for pictures that it wrote; else ``Euler a``.
    """
    items: dict[str, Any] = {str(key): value for key, value in image.info.items()}
    infotext = _text(items.pop("parameters", None))
    if isinstance(items.get("exif"), bytes):
        if comment := user_comment(items["exif"]):
            infotext = items["exif comment"] = comment
    elif "comment" in items:
        infotext = _text(items["comment"])
    items = {key: _plain(value) for key, value in items.items() if key not in _NOISE}
    if items.get("Software") == "NovelAI":
        infotext = _novelai(items, image.size, sampler_aliases or {}) or infotext
    return infotext, items


def user_comment(exif_bytes: bytes) -> str:
    """The text of EXIF UserComment under any of its encoding prefixes, or raw UTF-8; empty when absent or damaged."""
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        raw = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    except Exception:  # Pillow's reader answers damaged EXIF with whatever its code trips over
        return ""
    if isinstance(raw, str):
        return raw
    prefix, body = bytes(raw[:8]), bytes(raw[8:])
    encodings = {b"ASCII\0\0\0": "ascii", b"JIS\0\0\0\0\0": "shift_jis", b"UNICODE\0": "utf-16-be"}
    if prefix in encodings:
        return body.decode(encodings[prefix], errors="replace")
    return bytes(raw).decode("utf-8", errors="ignore").strip("\0")


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="ignore")
    return value if value is None or isinstance(value, str) else str(value)


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, str) else str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return _text(value)


def _novelai(items: Mapping[str, Any], size: tuple[int, int], aliases: Mapping[str, str]) -> str | None:
    try:
        comment = json.loads(items["Comment"])
        sampler = aliases.get(comment["sampler"], "Euler a")
        return (
            f"{items['Description']}\nNegative prompt: {comment['uc']}\n"
            f"Steps: {comment['steps']}, Sampler: {sampler}, CFG scale: {comment['scale']}, Seed: {comment['seed']}, "
            f"Size: {size[0]}x{size[1]}, Clip skip: 2, ENSD: 31337"
        )
    except (KeyError, TypeError, ValueError):
        return None
