"""Servers for the API's tests: in this process with one listed checkpoint, and as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tools.server_process import server_process

from latentd.testing import AppFactory


def write_empty_checkpoint(data_dir: Path) -> None:
    """A checkpoint that is listed and can be planned with; it holds no weights."""
    folder = data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "empty.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


@pytest.fixture
def planned(latentd_app: AppFactory) -> TestClient:
    """A client of a server on which generations can be planned."""
    write_empty_checkpoint(latentd_app.data_dir)
    return latentd_app()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in a process of its own, started as a user starts it."""
    data = tmp_path_factory.mktemp("data")
    write_empty_checkpoint(data)
    core = str(Path(__file__).parents[2] / "core")
    flags = ["--core-only", "--skip-load-model-at-start", "--api-server-stop", "--data-dir", str(data)]
    with server_process(*flags, environment={"PYTHONPATH": core, "OMP_NUM_THREADS": "1"}) as running:
        yield running.url
