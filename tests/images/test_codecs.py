from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from PIL import Image, features

from latentd.errors import InvalidImage, InvalidRequest, TooLarge
from latentd.images.codecs import decode_base64, encode_base64, encode_image, fits, open_image
from latentd.images.metadata import read_metadata, user_comment

BOUNDS = {"max_bytes": 1 << 20, "max_pixels": 1 << 20}


def decode_image(text: str, *, max_bytes: int, max_pixels: int) -> Image.Image:
    return open_image(decode_base64(text, max_bytes=max_bytes), max_pixels)


def png(size: tuple[int, int] = (6, 4), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 90).save(out, format="PNG")
    return out.getvalue()


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:image/webp;charset=x;base64,"])
def test_base64_and_data_urls_decode_to_the_picture(prefix: str) -> None:
    image = decode_image(prefix + as_text(png()), **BOUNDS)
    assert image.size == (6, 4)
    assert image.getpixel((0, 0)) == (90, 0, 0)


def test_line_breaks_inside_base64_are_skipped() -> None:
    text = as_text(png())
    assert decode_image(text[:40] + "\n" + text[40:], **BOUNDS).size == (6, 4)


@pytest.mark.parametrize(
    "text", ["", "no", "a" * 41, as_text(b"neither png nor jpeg"), as_text(png()[:45]), "data:image/png"]
)
def test_what_is_no_picture_is_refused_in_the_original_words(text: str) -> None:
    with pytest.raises(InvalidImage, match="Invalid encoded image"):
        decode_image(text, **BOUNDS)


def test_bounds_on_bytes_and_pixels_hold() -> None:
    with pytest.raises(TooLarge):
        decode_image(as_text(png()), max_bytes=20, max_pixels=1 << 20)
    with pytest.raises(TooLarge):
        decode_image(as_text(png((40, 30))), max_bytes=1 << 20, max_pixels=1199)
    assert decode_image(as_text(png((40, 30))), max_bytes=1 << 20, max_pixels=1200).size == (40, 30)


def test_a_bomb_is_refused_before_its_pixels_are_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"\0" * 1000)
    bomb += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(TooLarge):
        decode_image(as_text(bomb), **BOUNDS)


def test_formats_off_the_list_are_refused() -> None:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, format="PPM")
    with pytest.raises(InvalidImage):
        decode_image(as_text(out.getvalue()), **BOUNDS)


TEXT = 'a cat, 猫\nSteps: 4, Sampler: Euler, "ü"'


def test_png_carries_every_entry_as_a_text_chunk() -> None:
    data = encode_image(Image.new("RGBA", (4, 4)), format="png", info={"parameters": TEXT, "postprocessing": "plain"})
    image = open_image(data, 100)
    assert image.mode == "RGBA"
    assert read_metadata(image) == (TEXT, {"postprocessing": "plain"})
    assert b"tEXtpostprocessing\0plain" in data
    assert b"iTXtparameters\0" in data


@pytest.mark.parametrize("format", ["jpg", "JPEG", "webp", "avif"])
def test_other_formats_carry_the_infotext_as_user_comment(format: str) -> None:
    if format == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encode_image(Image.new("RGBA", (8, 8), "red"), format=format, info={"parameters": TEXT})
    assert b"UNICODE\0" + TEXT.encode("utf-16-be") in data
    image = open_image(data, 100)
    assert image.mode == "RGB"
    infotext, items = read_metadata(image)
    assert infotext == TEXT
    assert items == {"exif comment": TEXT}


def test_without_infotext_the_comment_is_empty_and_reads_as_none() -> None:
    assert read_metadata(open_image(encode_image(Image.new("L", (4, 4)), format="jpg"), 100)) == (None, {})


def test_quality_counts_and_webp_in_replies_is_lossy() -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    assert len(encode_image(noise, format="jpg", quality=90)) > len(encode_image(noise, format="jpg", quality=30))
    exact = open_image(encode_image(noise, format="webp", lossless=True), 1 << 20)
    assert exact.tobytes() == noise.tobytes()
    assert decode_image(encode_base64(noise, format="webp"), **BOUNDS).tobytes() != noise.tobytes()


def test_unknown_and_too_small_formats_are_client_errors() -> None:
    with pytest.raises(InvalidRequest, match="Invalid image format"):
        encode_image(Image.new("RGB", (4, 4)), format="tiff")
    assert not fits((65536, 1), "jpg")
    assert not fits((1, 16384), "webp")
    assert fits((65536, 1), "png")
    with pytest.raises(InvalidRequest):
        encode_image(Image.new("L", (16384, 1)), format="webp")


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"ASCII\0\0\0plain", "plain"), (b"UNICODE\0\0a\0b", "ab"), ("naïve".encode(), "naïve"), (b"\0" * 8 + b"x", "x")],
)
def test_user_comments_are_read_under_any_prefix(raw: bytes, text: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = raw
    assert user_comment(exif.tobytes()) == text


@pytest.mark.parametrize("text", ["a cat\nSteps: 20, Sampler: Euler", "猫 🐈 naïve\nSteps: 20, Seed: 5", "猫 x", "x"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-8"])
@pytest.mark.parametrize("mark", [False, True])
@pytest.mark.parametrize("end", ["", "\0"])
def test_unicode_comments_are_told_by_their_bytes(text: str, encoding: str, mark: bool, end: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + (("\ufeff" if mark else "") + text + end).encode(encoding)
    for order in (b"MM", b"II"):
        exif.endian = "<" if order == b"II" else ">"
        assert user_comment(exif.tobytes()) == text


@pytest.mark.parametrize("body", [b"", b"\0", b"a", b"\xff\xfe\0", b"\xd8\x00", bytes(range(256))])
def test_any_bytes_behind_unicode_are_a_text(body: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + body
    user_comment(exif.tobytes()).encode("utf-8", "strict")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_reads_as_nothing() -> None:
    assert user_comment(b"Exif\0\0MM\0*\0\0\0\x08\xff\xff") == "" == user_comment(b"junk")


def test_gif_comment_and_container_noise() -> None:
    out = io.BytesIO()
    Image.new("P", (4, 4)).save(out, format="GIF", comment=b"Steps: 1", duration=40, loop=0)
    infotext, items = read_metadata(open_image(out.getvalue(), 100))
    assert infotext == "Steps: 1"
    assert not {"duration", "loop", "background"} & set(items)


@pytest.mark.parametrize("length", [900_000, 900_001, 900_002])
@pytest.mark.parametrize("behind", ["", "\n", "QUJD"])
def test_what_stands_behind_the_padding_of_long_base64_is_not_read(length: int, behind: str) -> None:
    text = as_text(bytes(length)) + behind
    read = decode_base64(text, max_bytes=2 * length)
    assert read == base64.b64decode(text)


def test_long_base64_with_padding_at_the_front_is_none() -> None:
    with pytest.raises(InvalidImage):
        decode_base64("=" + as_text(bytes(900_000)), max_bytes=1_000_000)


@pytest.mark.parametrize("spoilt", [False, True], ids=["clean", "with line breaks"])
def test_long_base64_is_decoded_whole(spoilt: bool) -> None:
    data = bytes(range(256)) * 60_000
    text = as_text(data)
    if spoilt:
        text = "\n".join(text[start : start + 1000] for start in range(0, len(text), 1000))
    assert decode_base64(text, max_bytes=2 * len(data)) == data
