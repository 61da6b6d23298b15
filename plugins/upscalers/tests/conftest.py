"""A data folder with the tiny network that AUTOMATIC1111's answers were recorded with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from latentd.testing import HeadlessServices, latentd_app

__all__ = ["latentd_app"]

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded pictures and lists, and of the network ``TinyRRDB_x4.pth``."""
    return DATA


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeadlessServices:
    """Services without a server, over an empty data folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return HeadlessServices()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """``models/ESRGAN/TinyRRDB_x4.pth`` in the data folder."""
    path = tmp_path / "models" / "ESRGAN" / "TinyRRDB_x4.pth"
    path.parent.mkdir(parents=True)
    shutil.copy(DATA / path.name, path)
    return path
