"""Servers of the core alone, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from latentd.testing import AppFactory


@pytest.fixture
def client(latentd_app: AppFactory) -> TestClient:
    """A client of a server without any model."""
    return latentd_app()


@pytest.fixture
def with_checkpoint(latentd_app: AppFactory) -> TestClient:
    """A client of a server that lists one checkpoint, enough for planning (it holds no weights)."""
    folder: Path = latentd_app.data_dir / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "empty.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return latentd_app()
