"""What every test shares: the fixture that plugin authors get, and an environment free of the machine's own flags."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentd.testing import latentd_app
from tests.reference_server import ReferenceServer, start_reference_server

__all__ = ["latentd_app"]

pytest.register_assert_rewrite("tests.compat")

TESTS = Path(__file__).parent
REFERENCE = TESTS / "reference"


@pytest.fixture(autouse=True, scope="session")
def _no_flags_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("LATENTD_") or name == "COMMANDLINE_ARGS"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def reference_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of AUTOMATIC1111's shape with tiny but real files of every kind; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, REFERENCE / "assemble.py", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def reference_server(reference_data: Path) -> Iterator[ReferenceServer]:
    """A server process on :func:`reference_data`, drawing with torch's CPU noise; one for the whole run."""
    with start_reference_server(reference_data) as server:
        yield server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of minutes run when ``-m slow`` asks for them, as CI does after the others."""
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if TESTS in item.path.parents and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; runs with -m slow"))
