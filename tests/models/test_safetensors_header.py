"""Headers of safetensors files, held against the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from latentd.errors import ModelLoadError
from latentd.models.files.safetensors_header import (
    MAX_HEADER,
    check_header,
    check_layout,
    read_header,
    safetensors_metadata,
)
from latentd.models.files.state_dict import open_state_dict


def write(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with this header, in whatever relation to its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[Any], dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LIES = {
    "beyond the file": ({"a": entry(0, 64, [16])}, b"\0" * 16, "cut off"),
    "overlap": ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"\0" * 12, "overlaps"),
    "the same bytes": ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, b"\0" * 8, "overlaps"),
    "a gap": ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"\0" * 12, "late"),
    "bytes left over": ({"a": entry(0, 4, [1])}, b"\0" * 12, "no tensor"),
    "another size": ({"a": entry(0, 8, [1 << 40])}, b"\0" * 8, "does not fit"),
    "a product beyond 64 bits": ({"a": entry(0, 8, [1 << 40, 1 << 40])}, b"\0" * 8, "does not fit"),
    "negative": ({"a": entry(-4, 4, [2])}, b"\0" * 8, "lacks"),
    "backwards": ({"a": entry(8, 4, [0])}, b"\0" * 8, "does not fit"),
    "fractions": ({"a": entry(0, 4, [1.0])}, b"\0" * 4, "lacks"),
    "truth for a number": ({"a": entry(False, 4, [1])}, b"\0" * 4, "lacks"),  # type: ignore[arg-type]
    "many dimensions": ({"a": entry(0, 4, [1] * 10_000)}, b"\0" * 4, "lacks"),
    "no type": ({"a": entry(0, 4, [1], None)}, b"\0" * 4, "lacks"),
    "no object": ({"a": 5}, b"", "lacks"),
    "a list": ([1], b"", "no object"),
    "no JSON": (b"{nope", b"", ""),
    "deep": (b"[" * 100_000, b"", ""),
    "lists without end": (b'{"a":[' + b"[]," * 3_000_000 + b"[]]}", b"", "more than"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_with_the_files_name(tmp_path: Path, lie: str) -> None:
    header, data, words = LIES[lie]
    path = write(tmp_path / "lying.safetensors", header, data)
    for read in (check_header, check_layout, open_state_dict, lambda path: open_state_dict(path, mapped=False)):
        with pytest.raises(ModelLoadError, match=rf"(?s)lying\.safetensors .*{words}") as caught:
            read(path)
        assert caught.value.status == 422


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, MAX_HEADER + 1, 1000])
def test_a_headers_length_is_held_against_the_file_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", {}, length=length)
    with pytest.raises(ModelLoadError, match="length"):
        read_header(path)
    assert safetensors_metadata(path) == {}


def test_what_the_library_writes_is_held_to_be_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    types = [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64]
    tensors = {str(kind): torch.zeros(3, 5, dtype=kind) for kind in types} | {"empty": torch.zeros(0, 4)}
    save_file(tensors | {"scalar": torch.tensor(1.0)}, path, {"note": "x"})
    check_layout(path)
    assert safetensors_metadata(path) == {"note": "x"}
    assert set(read_header(path)) == {*tensors, "scalar", "__metadata__"}


def test_a_tensor_of_nan_alone_is_refused_by_name_wherever_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    some = torch.tensor([torch.nan, 1.0])
    save_file({"p.bad": torch.full((4, 4), torch.nan).half(), "p.some": some, "p.int": torch.ones(2).int()}, path)
    for mapped in (True, False):
        weights = open_state_dict(path, mapped=mapped).below("p.")
        assert torch.equal(weights["some"].isnan(), some.isnan())
        with pytest.raises(ModelLoadError, match=r"x\.safetensors: tensor 'p.bad' holds no number but NaN"):
            weights["bad"]
