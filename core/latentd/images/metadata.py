"""The infotext and the other text entries that a picture file carries (rules: a1111-images)."""

from __future__ import annotations

from contextlib import suppress

from PIL import Image

from latentd.types import JsonValue

_USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769
_NOISE = frozenset(
    (
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "loop", "background", "timestamp"),
        *("duration", "progressive", "progression", "icc_profile", "chromaticity", "photoshop"),
    )
)
"""Entries that describe the file rather than how the picture was made; they are not listed."""


def read_metadata(image: Image.Image) -> tuple[str | None, dict[str, JsonValue]]:
    """``(infotext, items)`` of a decoded picture; the infotext is None if it has none, items are ready for JSON.

    An EXIF UserComment takes precedence over a text ``parameters``; a GIF's comment is used if it has neither.
    """
    items: dict[str, JsonValue] = {str(key): value for key, value in image.info.items()}
    infotext = _text(items.pop("parameters", None))
    if isinstance(items.get("exif"), bytes):
        if comment := user_comment(items["exif"]):
            infotext = items["exif comment"] = comment
    elif "comment" in items:
        infotext = _text(items["comment"])
    return infotext, {key: _plain(value) for key, value in items.items() if key not in _NOISE}


def user_comment(exif_bytes: bytes) -> str:
    """The text of EXIF UserComment, with or without one of its encoding prefixes; empty if absent or damaged.

    The bytes after the prefix ``UNICODE`` show their encoding: UTF-16 of either byte order, or UTF-8.
    """
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        raw = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    except Exception:  # damaged EXIF can raise anything in Pillow's reader
        return ""
    if isinstance(raw, str):
        return raw
    prefix, body = bytes(raw[:8]), bytes(raw[8:])
    if prefix == b"UNICODE\0":
        return _decode_unicode(body)
    encodings = {b"ASCII\0\0\0": "utf-8", b"JIS\0\0\0\0\0": "shift_jis"}
    if prefix in encodings:
        return body.decode(encodings[prefix], errors="replace").strip("\0")
    return bytes(raw).decode("utf-8", errors="ignore").strip("\0")


def _decode_unicode(body: bytes) -> str:
    """``body`` decoded by its byte-order mark, or else by what it looks like; in doubt as big-endian UTF-16.

    Infotexts contain ASCII letters: in UTF-16 one of their two bytes is zero, in UTF-8 none is.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le")):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, errors="replace").strip("\0")
    if 0 not in body.rstrip(b"\0"):
        with suppress(UnicodeDecodeError):
            return body.decode("utf-8").strip("\0")
    texts = [body.decode(encoding, errors="replace").strip("\0") for encoding in ("utf-16-be", "utf-16-le")]
    return max(texts, key=lambda text: sum(letter.isascii() for letter in text))


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="ignore")
    return value if value is None or isinstance(value, str) else str(value)


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, str) else str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return _text(value)
