"""What the package carries: files within their limits, in the ordinary formats, and a motif list that fits them."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import latentd_tinymodel
import pytest

FILES = {file.kind: file for file in latentd_tinymodel.register_checkpoints()}
LIMITS = {"checkpoint": 20e6, "controlnet": 8e6, "upscaler": 2e6}


def header(path: Path) -> dict[str, Any]:
    """The tensors a safetensors file lists, without reading them."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        listed: dict[str, Any] = json.loads(file.read(size))
    return {key: value for key, value in listed.items() if key != "__metadata__"}


@pytest.mark.parametrize("kind", LIMITS)
def test_each_file_is_within_its_limit_and_in_half_precision(kind: str) -> None:
    path = FILES[kind].path  # type: ignore[index]
    assert path.stat().st_size <= LIMITS[kind]
    assert {entry["dtype"] for entry in header(path).values()} == {"F16"}


def test_the_checkpoint_has_the_ordinary_parts_and_the_real_vocabulary() -> None:
    listed = header(FILES["checkpoint"].path)
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    assert listed[table]["shape"][0] == 49408
    parts = {key.split(".")[0] for key in listed}
    assert parts == {"model", "cond_stage_model", "first_stage_model"}
    assert FILES["checkpoint"].default
    assert FILES["checkpoint"].path.with_suffix(".yaml").is_file()


def test_the_controlnet_fits_the_checkpoint() -> None:
    unet, control = header(FILES["checkpoint"].path), header(FILES["controlnet"].path)
    shared = "middle_block.0.in_layers.2.weight"
    assert control[f"control_model.{shared}"]["shape"] == unet[f"model.diffusion_model.{shared}"]["shape"]


def test_a_hundred_motifs_are_listed_once_each() -> None:
    names = latentd_tinymodel.motifs()
    assert len(names) >= 100
    assert len(set(names)) == len(names)


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, latentd_tinymodel; latentd_tinymodel.register_checkpoints(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
