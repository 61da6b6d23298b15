"""Runs the command as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def latentd(tmp_path: Path) -> Run:
    """A function that runs ``latentd`` in an empty folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "latentd", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CORE), **environment},
        )

    return run
