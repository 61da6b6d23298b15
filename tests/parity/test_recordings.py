"""Same checkpoint, same seed, same picture: recorded requests of AUTOMATIC1111 1.8.0, replayed over HTTP."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.parity.explained import EXPLAINED, EXPLAINED_TEXT
from tests.reference_server import ReferenceServer

REFERENCE = Path(__file__).parent.parent / "reference"
FLOOR_DB = 55.0
ROWS = json.loads((REFERENCE / "index.json").read_text())
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
    key = f"{row['group']}/{row['name']}"
    if row["group"] in CHANGES_STATE:
        reference_server.reset()
    replay = compare.Replay(reference_server.url, REFERENCE)
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
    if row["group"] in CHANGES_STATE:
        reference_server.reset()
