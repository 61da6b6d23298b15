"""Looking through folders reads the headers of weight files, however large the files are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from latentd.conditioning.embeddings import EmbeddingStore
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.shapes import read_shapes
from latentd.models.files.vae_files import VaeFiles
from latentd.networks.files import NetworkLibrary

COUNTED = Path("/proc/self/io")
pytestmark = pytest.mark.skipif(not COUNTED.exists(), reason="the bytes read are counted by Linux")
WIDTH = 768
ROWS = 65_000  # 190 MiB: an embedding may have 256
MOST = 1 << 20


def sparse(path: Path, rows: int) -> Path:
    """A safetensors file of one tensor [rows, 768] of float32, zeros that take no room on the disk."""
    size = rows * WIDTH * 4
    header = json.dumps({"a": {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + size)
    return path


def read_bytes() -> int:
    """Bytes that this process has read so far."""
    return int(COUNTED.read_text(encoding="ascii").split()[1])


SCANS: dict[str, Callable[[Path], object]] = {
    "checkpoints": lambda folder: Checkpoints([folder], HashCache(folder / "cache")).rows(),
    "VAEs": lambda folder: VaeFiles([folder], HashCache(folder / "cache")).rows(),
    "networks": lambda folder: NetworkLibrary([folder]).list(),
    "embeddings": lambda folder: EmbeddingStore([folder], HashCache(folder / "cache")).problems,
    "upscalers": lambda folder: [read_shapes(path) for path in folder.glob("*.safetensors")],
}


@pytest.mark.parametrize("kind", SCANS)
def test_a_scan_reads_headers_only(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        sparse(tmp_path / f"{number}.safetensors", ROWS)
    SCANS[kind](tmp_path / "nothing")  # imports what it needs
    before = read_bytes()
    found = SCANS[kind](tmp_path)
    assert read_bytes() - before < MOST
    assert found, "the files were not seen"
