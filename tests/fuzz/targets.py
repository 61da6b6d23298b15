"""What is fuzzed: for each reader the files it is given, and what must hold of its answer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from latentd.errors import InvalidImage, ModelLoadError, TooLarge
from latentd.images.codecs import encode_image, open_image
from latentd.images.metadata import read_metadata
from latentd.infotext.novelai import novelai_infotext
from latentd.infotext.parse import parse_infotext
from latentd.models.files.pickles.containers import read_contents
from latentd.models.files.pickles.describe import Description
from latentd.models.files.safetensors_header import safetensors_metadata
from latentd.models.files.shapes import read_shapes
from latentd.models.files.state_dict import open_state_dict
from latentd.models.files.unpickle import load_pickle
from tests.fuzz.programs import changed, pickle_files

MAX_PIXELS = 1 << 20
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


@dataclass(frozen=True)
class Target:
    """``check`` tells whether the file at a path was read, and raises AssertionError where more came of it than may."""

    files: Callable[[], st.SearchStrategy[bytes]]
    check: Callable[[Path], bool]
    name: str


def _check_pickle(path: Path) -> bool:
    """:class:`ModelLoadError` or a dictionary; tensors that can be read, no larger than the file allows.

    What the reader's process does is done in this one, too, where a crash, time and memory are seen.
    """
    try:
        with path.open("rb") as file:
            json.dumps(Description(read_contents(file), path.stat().st_size).as_json(inline=True))
    except (MemoryError, RecursionError, OSError):
        raise
    except Exception:  # what is wrong with a file is told by the exception, whichever it is
        pass
    try:
        data = load_pickle(path)
    except ModelLoadError as error:
        _no_memory_error(error)
    else:
        assert isinstance(data, dict)
    _told(path)
    read = _read_all(path)
    # One object of the process each: a file that changes them breaks everything else.
    assert all(np.dtype(kind).flags == 0 and np.zeros(2, kind).tolist() == [0, 0] for kind in _NUMBERS)
    return read


def _told(path: Path) -> None:
    try:
        assert all(isinstance(shape, tuple) for shape in read_shapes(path).values())
    except ModelLoadError as error:
        _no_memory_error(error)


def _read_all(path: Path) -> bool:
    try:
        weights = open_state_dict(path)
        for key in weights:
            weights[key].clone()
    except ModelLoadError as error:
        _no_memory_error(error)
        return False
    return True


def _no_memory_error(error: BaseException) -> None:
    """Memory that a file asks for is bounded before it is asked of the system."""
    cause: BaseException | None = error
    while cause is not None:
        words = str(cause).lower()
        assert not isinstance(cause, MemoryError), repr(cause)
        assert "not enough memory" not in words, words
        assert "more memory" not in words, words
        assert "its reader" not in words, words  # ended, or cannot be started
        cause = cause.__cause__


def _check_safetensors(path: Path) -> bool:
    metadata = safetensors_metadata(path)
    assert all(isinstance(value, str) for value in metadata.values())
    _told(path)
    return _read_all(path)


_SIZES = st.one_of(st.integers(-2, 64), st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**30]))
_JSON = st.recursive(
    st.none() | st.booleans() | _SIZES | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3)
)
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "F4", "C64", "X"]) | _JSON,
        "shape": st.lists(_SIZES, max_size=4) | _JSON,
        "data_offsets": st.lists(_SIZES, min_size=2, max_size=2) | _JSON,
    },
)


@st.composite
def _headers(draw: st.DrawFn) -> bytes:
    header = draw(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), _ENTRY | _JSON, max_size=4) | _JSON)
    text = json.dumps(header).encode()
    length = draw(st.just(len(text)) | _SIZES.filter(lambda size: 0 <= size < 2**64))
    return length.to_bytes(8, "little") + text + draw(st.binary(max_size=64))


def _safetensors_files() -> st.SearchStrategy[bytes]:
    sound = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half()}
    real = [save(sound), save(sound, {"note": "x", "ss_tag_frequency": '{"a": {"b": 1}}'})]
    real.append(save(sound | {"c": torch.full((2,), torch.nan)}))
    return st.one_of(st.sampled_from(real).flatmap(changed), _headers())


def _picture(format: str, **options: Any) -> bytes:
    image = Image.linear_gradient("L").resize((24, 16)).convert("RGBA" if format in ("PNG", "WEBP") else "RGB")
    if format in ("PNG", "JPEG", "WEBP"):
        info = {"parameters": "a cat\nSteps: 4, Seed: 1, Size: 24x16", "Comment": '{"steps": 4}', "x": "y" * 300}
        kind = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[format]
        return encode_image(image, format=kind, info=info)
    out = io.BytesIO()
    image.convert("P" if format == "GIF" else "RGB").save(out, format=format, **options)
    return out.getvalue()


def _picture_files() -> st.SearchStrategy[bytes]:
    kinds = [_picture(format) for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")]
    kinds += [_picture("GIF", comment="a cat"), _picture("TIFF", compression="tiff_lzw")]
    return st.sampled_from(kinds).flatmap(changed)


def _check_picture(path: Path) -> bool:
    """An error of the picture's, or a picture within the bounds whose texts are JSON and can be read as an infotext."""
    try:
        image = open_image(path.read_bytes(), MAX_PIXELS)
    except (InvalidImage, TooLarge):
        return False
    assert image.width * image.height <= MAX_PIXELS
    text, items = read_metadata(image)
    json.dumps(items)
    assert text is None or isinstance(text, str)
    parse_infotext(novelai_infotext(items, *image.size) or text or "")
    return True


TARGETS: Mapping[str, Target] = {
    "pickles": Target(pickle_files, _check_pickle, "x.pt"),
    "safetensors": Target(_safetensors_files, _check_safetensors, "x.safetensors"),
    "pictures": Target(_picture_files, _check_picture, "x.png"),
}
