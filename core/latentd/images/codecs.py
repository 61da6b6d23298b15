"""Request strings to pictures and pictures to reply bytes."""

from __future__ import annotations

import base64
import binascii
import io
import string
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, features
from PIL.PngImagePlugin import PngInfo

from latentd.errors import InvalidImage, InvalidRequest, TooLarge
from latentd.images.depth import eight_bits
from latentd.images.png_chunks import readable_chunks

READABLE = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""Formats of pictures in requests. Pillow's other decoders are not offered to callers."""

_PIECE = 1 << 18
_ALPHABET = string.ascii_letters + string.digits + "+/="
#: Bytes whose base64 has no padding.
_WHOLE = 3 * _PIECE // 4
_SKIPPED = bytes(set(range(256)) - set(_ALPHABET.encode()))
_USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769
_UNICODE_PREFIX = b"UNICODE\0"
_WRITERS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
_LONGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}


def decode_base64(text: str, *, max_bytes: int) -> bytes:
    """Decode base64 or a data URL. Characters outside the alphabet are skipped, as AUTOMATIC1111 does.

    :raises InvalidImage: wrong padding or length.
    :raises TooLarge: more than ``max_bytes``.
    """
    start = 0
    if text.startswith("data:image/"):
        start = text.find(",", text.find(";")) + 1
    if (len(text) - start) // 4 * 3 > max_bytes + 3:
        raise TooLarge(f"image is larger than {max_bytes} bytes")
    try:
        data = _from_base64(text, start)
    except ValueError as error:
        raise InvalidImage(hint="the text is not base64") from error
    if len(data) > max_bytes:
        raise TooLarge(f"image is larger than {max_bytes} bytes")
    return data


def _from_base64(text: str, start: int) -> bytes:
    """As ``base64.b64decode`` of ``text[start:]``; in pieces, because it blocks every other thread.

    :raises ValueError: as ``b64decode``, and for a long text with ``=`` where no padding belongs.
    """
    if len(text) - start <= _PIECE:
        return base64.b64decode(text[start:])
    out, rest = io.BytesIO(), b""
    for place in range(start, len(text), _PIECE):
        rest += text[place : place + _PIECE].encode("ascii").translate(None, _SKIPPED)
        padding = rest.find(b"=")
        if padding >= 0:
            # Base64 ends with its padding.
            rest += text[place + _PIECE : place + _PIECE + 2].encode("ascii")
            rest = rest[: padding + 2 - padding % 4 // 3]
            break
        whole = len(rest) - len(rest) % 4
        out.write(binascii.a2b_base64(rest[:whole], strict_mode=True))
        rest = rest[whole:]
    out.write(binascii.a2b_base64(rest, strict_mode=True))
    return out.getvalue()


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The decoded first frame of an image file's bytes; every picture from outside is opened by this function.

    As in AUTOMATIC1111 1.9, the picture is turned as its EXIF orientation says, and a palette whose colours have alpha
    values becomes RGBA. Levels of more than 8 bits are scaled to 8; otherwise the mode is the file's. ``info`` is kept.

    :raises InvalidImage: the bytes are no picture in one of :data:`READABLE`, or a damaged one.
    :raises TooLarge: more than ``max_pixels``.
    """
    return load_image(open_header(data, max_pixels))


def open_header(data: bytes, max_pixels: int) -> Image.Image:
    """The picture of an image file's bytes with its size, no pixel decoded yet; :func:`load_image` decodes it.

    :raises InvalidImage: as :func:`open_image`.
    :raises TooLarge: more than ``max_pixels``.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(readable_chunks(data)), formats=READABLE)
    except Image.DecompressionBombError as error:
        raise TooLarge(f"image has more than {max_pixels} pixels") from error
    # For damaged files, Pillow's parsers raise exceptions of any kind (SyntaxError, IndexError, struct.error...).
    except Exception as error:
        raise InvalidImage from error
    if image.width * image.height > max_pixels:
        raise TooLarge(f"image is {image.width}x{image.height}, over {max_pixels} pixels")
    return image


def load_image(image: Image.Image) -> Image.Image:
    """``image``, opened by :func:`open_header`, decoded as :func:`open_image` does it.

    :raises InvalidImage: the file is damaged.
    """
    try:
        image.load()
    except Exception as error:
        raise InvalidImage(hint="the file is damaged or cut short") from error
    return _with_alpha_of_palette(_upright(eight_bits(image)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block can raise anything in Pillow's reader; the picture itself is good
        return image


def _with_alpha_of_palette(image: Image.Image) -> Image.Image:
    if image.mode in ("P", "RGB") and isinstance(image.info.get("transparency"), bytes):
        return image.convert("RGBA")
    return image


def encode_image(
    image: Image.Image,
    *,
    format: str,
    quality: int = 80,
    info: Mapping[str, str] | None = None,
    lossless: bool = False,
) -> bytes:
    """The file bytes of ``image``.

    PNG carries every entry of ``info`` as a text chunk (tEXt, or iTXt outside Latin-1); the other formats carry
    ``info["parameters"]``, or empty text, as EXIF UserComment.

    :param format: png, jpg, jpeg, webp or avif, in any case.
    :param quality: 1 to 100; PNG ignores it.
    :param lossless: WebP only.
    :raises InvalidRequest: a format that is unknown, not compiled into Pillow, or cannot hold a picture of this size.
    """
    writer = writer_of(format)
    if (longest := _LONGEST_SIDE.get(writer)) is not None and max(image.size) > longest:
        raise InvalidRequest(f"{writer} holds no side over {longest} pixels", hint="use png")
    info = info or {}
    out = io.BytesIO()
    if writer == "PNG":
        image.save(out, format="PNG", pnginfo=_png_text(info))
        return out.getvalue()
    # Arguments of PIL's save, each of a type of its own.
    options: dict[str, Any] = {"quality": quality, "exif": exif_with_comment(info.get("parameters", ""))}
    if writer == "WEBP":
        options["lossless"] = lossless
    _without_alpha(image).save(out, format=writer, **options)
    return out.getvalue()


def encode_base64(image: Image.Image, *, format: str, quality: int = 80, info: Mapping[str, str] | None = None) -> str:
    """Base64 text of :func:`encode_image`, without data-URL prefix; WebP is lossy, as in AUTOMATIC1111's replies."""
    data = encode_image(image, format=format, quality=quality, info=info)
    return b"".join(
        binascii.b2a_base64(data[start : start + _WHOLE], newline=False) for start in range(0, len(data), _WHOLE)
    ).decode("ascii")


def writer_of(format: str) -> str:
    """Pillow's name of the writer for a value of option ``samples_format``.

    :raises InvalidRequest: ``Invalid image format``, where the format is unknown or not compiled into Pillow.
    """
    writer = _WRITERS.get(format.lower().lstrip("."))
    if writer is None or (writer == "AVIF" and not features.check("avif")):
        raise InvalidRequest("Invalid image format", hint="samples_format is one of png, jpg, jpeg, webp, avif")
    return writer


def fits(size: tuple[int, int], format: str) -> bool:
    """Whether a file in ``format`` can hold a picture of this size."""
    longest = _LONGEST_SIDE.get(writer_of(format))
    return longest is None or max(size) <= longest


def exif_with_comment(text: str) -> bytes:
    r"""An EXIF block with ``text`` as UserComment: the 8 bytes ``UNICODE\0``, then UTF-16 big-endian."""
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _UNICODE_PREFIX + text.encode("utf-16-be", errors="replace")
    return exif.tobytes()


def _png_text(info: Mapping[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in info.items():
        chunks.add_text(key, value)
    return chunks


def _without_alpha(image: Image.Image) -> Image.Image:
    image = eight_bits(image)
    return image if image.mode in ("RGB", "L") else image.convert("RGB")
