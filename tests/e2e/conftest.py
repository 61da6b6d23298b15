"""A server of these tests' own: real models, a data folder that may be written to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.calls import Drawing, draw
from tests.e2e.onnx_networks import write_networks
from tests.reference_server import ReferenceServer, start_reference_server


@pytest.fixture(scope="session")
def live_data(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the reference models, for settings and pictures of these tests."""
    data = tmp_path_factory.mktemp("live")
    (data / "models").mkdir()
    for folder in (reference_data / "embeddings", *(reference_data / "models").iterdir()):
        (data / folder.relative_to(reference_data)).symlink_to(folder)
    write_networks(data / "models")
    shutil.copy(reference_data / "styles.csv", data)
    return data


@pytest.fixture(scope="session")
def live(live_data: Path) -> Iterator[ReferenceServer]:
    """A server process on :func:`live_data`."""
    with start_reference_server(live_data, "--max-queue", "6", "--cancel-on-disconnect") as server:
        yield server


@pytest.fixture(scope="session")
def plain(live: ReferenceServer) -> Drawing:
    """The picture of the base request under no options."""
    return draw(live)


@pytest.fixture
def folder(live: ReferenceServer, request: pytest.FixtureRequest) -> Path:
    """An output folder of the test's own, inside the data folder."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return live.data / "outputs" / name
