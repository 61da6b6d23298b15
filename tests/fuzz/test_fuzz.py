"""A short run of every fuzzer, in a process of its own: what crashes there fails here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the limits are POSIX's")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", ["pickles", "safetensors", "pictures"])
def test_no_file_crashes_its_reader_or_takes_more_than_it_may(target: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--examples", "400", "--seed", "1"]
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "400 files" in done.stdout
