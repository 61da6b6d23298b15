"""Pictures as people's tools write them: deep, turned by EXIF, with palettes, long texts and profiles."""

from __future__ import annotations

import io
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.images.png_files import chunk, png_file

from latentd.errors import InvalidImage
from latentd.images import png_chunks
from latentd.images.codecs import open_image
from latentd.images.metadata import read_metadata

ORIENTATION = 0x0112
RAMP = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (4, 1))


def opened(data: bytes) -> Image.Image:
    return open_image(data, 1 << 20)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


# --- depth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_of_a_png_are_scaled(channels: int) -> None:
    levels = np.stack([np.roll(RAMP, shift, axis=1) for shift in range(channels)], axis=2)
    deep, plain = (opened(png_file(x)) for x in (levels.astype(np.uint16) * 257, levels))
    # Pillow gives grey with alpha as RGBA where it has 16 bits.
    assert deep.mode == {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}[channels]
    assert deep.convert("RGBA").tobytes() == plain.convert("RGBA").tobytes()


@pytest.mark.parametrize(
    "levels",
    [
        RAMP.astype(np.uint16) * 257,
        RAMP.astype(">u2") * 257,
        RAMP.astype(np.int32),
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) * 257,
    ],
    ids=["16", "16-big-endian", "32-of-8", "32-of-16", "share", "float-of-8", "float-of-16"],
)
def test_deep_tiffs_are_scaled(levels: np.ndarray) -> None:
    image = opened(saved(Image.fromarray(levels), "TIFF"))
    assert image.mode == "L"
    assert np.abs(np.asarray(image).astype(int) - RAMP).max() == 0


def test_levels_that_are_no_number_are_black() -> None:
    image = opened(saved(Image.fromarray(np.array([[np.nan, -1.0, 0.5, 1.0]], np.float32)), "TIFF"))
    assert np.asarray(image).tolist() == [[0, 0, 128, 255]]


def test_texts_of_a_deep_picture_are_kept() -> None:
    deep = png_file(RAMP.astype(np.uint16) * 257, [chunk(b"tEXt", b"parameters\0a cat")])
    assert read_metadata(opened(deep))[0] == "a cat"


# --- orientation and palettes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(format: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = Image.linear_gradient("L").crop((0, 0, 16, 256)).convert("RGB").resize((16, 32))
    stored.putpixel((3, 2), (255, 0, 0))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    image = opened(saved(stored, format, exif=exif, **lossless))
    upright = stored.transpose(turns[orientation]) if orientation in turns else stored
    assert image.size == upright.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(upright)).mean() < 2


def test_a_turned_picture_keeps_its_infotext() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a cat\nSteps: 4".encode("utf-16-be")
    image = opened(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif))
    assert (image.size, read_metadata(image)[0]) == ((4, 8), "a cat\nSteps: 4")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_refuses_no_good_picture() -> None:
    data = png_file(RAMP, [chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff\x01\x12")])
    assert opened(data).tobytes() == RAMP.tobytes()


def test_a_palette_with_alpha_is_rgba() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 1, 2, 3])
    image.putpixel((1, 0), 1)
    assert list(opened(saved(image, "PNG", transparency=bytes([0, 90]))).get_flattened_data()) == [
        (200, 10, 20, 0),
        (1, 2, 3, 90),
    ]
    assert opened(saved(image, "PNG")).mode == "P"


# --- long chunks -----------------------------------------------------------------------------------------------------

LONG = (b"0123456789abcdef" * (3 << 16))[: 3 << 20]


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"workflow\0" + LONG),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"workflow\0\1\0en\0arbeit\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"workflow\0\0\0\0\0" + LONG),
    ],
    ids=["tEXt", "zTXt", "iTXt-packed", "iTXt"],
)
def test_long_texts_are_read_whole(text: bytes) -> None:
    image = opened(png_file(RAMP, [text, chunk(b"tEXt", b"parameters\0a cat")]))
    infotext, items = read_metadata(image)
    assert image.tobytes() == RAMP.tobytes()
    assert infotext == "a cat"
    assert items["workflow"] == LONG.decode()


def test_a_long_profile_refuses_no_picture() -> None:
    profile = chunk(b"iCCP", b"printer\0\0" + zlib.compress(LONG))
    image = opened(png_file(RAMP, [profile, chunk(b"tEXt", b"parameters\0a cat")]))
    assert (image.tobytes(), read_metadata(image)[0]) == (RAMP.tobytes(), "a cat")


def test_a_short_profile_and_short_texts_are_left_alone() -> None:
    extra = [chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")), chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text"))]
    data = png_file(RAMP, extra)
    assert png_chunks.readable_chunks(data) is data
    assert opened(data).info["icc_profile"] == b"profile"


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_bombs_in_texts_and_profiles_are_left_out(kind: bytes, caplog: pytest.LogCaptureFixture) -> None:
    packed = zlib.compress(bytes(200 << 20), 9)
    heads = {b"zTXt": b"bomb\0\0", b"iTXt": b"bomb\0\1\0\0\0", b"iCCP": b"bomb\0\0"}
    data = png_file(RAMP, [chunk(b"tEXt", b"parameters\0a cat"), *[chunk(kind, heads[kind] + packed)] * 30])
    began = time.perf_counter()
    image = opened(data)
    assert time.perf_counter() - began < 2
    assert (image.tobytes(), read_metadata(image)) == (RAMP.tobytes(), ("a cat", {}))
    assert ("b'bomb' is left out" in caplog.text) is (kind != b"iCCP")


def test_texts_over_the_budget_are_left_out_and_the_picture_stays() -> None:
    texts = [chunk(b"tEXt", b"t%d\0" % n + bytes(b"x" * (15 << 20))) for n in range(5)]
    _, items = read_metadata(opened(png_file(RAMP, texts)))
    assert list(items) == ["t0", "t1", "t2"]


@pytest.mark.parametrize("cut", [10, 40, 60])
def test_a_file_cut_short_is_still_refused(cut: int) -> None:
    with pytest.raises(InvalidImage):
        opened(png_file(RAMP, [chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG))])[:cut])
