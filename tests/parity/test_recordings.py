"""Same checkpoint, same seed, same picture: recorded requests of AUTOMATIC1111 1.8.0, replayed over HTTP."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.parity.explained import EXPLAINED, EXPLAINED_TEXT
from tests.reference_server import ReferenceServer, start_reference_server

TESTS = Path(__file__).parent.parent
REFERENCE, SDXL = TESTS / "reference", TESTS / "reference_sdxl"
FLOOR_DB = 55.0
ROWS = json.loads((REFERENCE / "index.json").read_text())
SDXL_ROWS = json.loads((SDXL / "index.json").read_text())
CHANGES_STATE = {"models"}


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare", REFERENCE / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare = _tool()


@pytest.mark.parametrize("row", ROWS, ids=[f"{r['group']}/{r['name']}" for r in ROWS])
def test_recorded_answer(row: dict[str, Any], reference_server: ReferenceServer) -> None:
    if row["group"] in CHANGES_STATE:
        reference_server.reset()
    judge(row, compare.Replay(reference_server.url, REFERENCE))
    if row["group"] in CHANGES_STATE:
        reference_server.reset()


@pytest.fixture(scope="session")
def sdxl_server(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    """A server on tiny models of SDXL, its refiner and SD 2; those of SD 1 are there, too.

    It keeps them loaded: most requests name another one than the request before. The other server loads one at a time.
    """
    folder = tmp_path_factory.mktemp("sdxl")
    made = [sys.executable, str(SDXL / "make_models.py"), str(folder), "--reference", str(REFERENCE)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    for path in reference_data.rglob("*"):
        if path.is_file():
            here = folder / path.relative_to(reference_data)
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(path)
    with start_reference_server(folder) as server:
        status, body = server.call("POST", "/sdapi/v1/options", {"sd_checkpoints_limit": 10})
        assert status == 200, body
        yield server


@pytest.mark.parametrize("row", SDXL_ROWS, ids=[f"{r['group']}/{r['name']}" for r in SDXL_ROWS])
def test_recorded_answer_of_sdxl(row: dict[str, Any], sdxl_server: ReferenceServer) -> None:
    judge(row, compare.Replay(sdxl_server.url, SDXL))


def judge(row: dict[str, Any], replay: Any) -> None:
    """Hold the answer to one recorded request against the recorded one."""
    key = f"{row['group']}/{row['name']}"
    folder, want, status, body = replay(row)
    found = compare.judge(key, folder, want, status, body, FLOOR_DB)
    if key in EXPLAINED:
        assert found["verdict"] != "agree", f"{key} agrees now: take it off the list"
        return
    if want["status"] == 500:
        assert status == 200 or 400 <= status < 500, found
        return
    assert found["verdict"] == "agree", found
    if key not in EXPLAINED_TEXT:
        assert found["infotext"] is not False, found
        assert found["rest"] is not False, found
