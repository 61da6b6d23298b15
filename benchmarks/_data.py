"""What the benchmarks draw with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def assembled(folder: str) -> str:
    """``folder``, filled with the tiny models that the tests use."""
    script = ROOT / "tests" / "reference" / "assemble.py"
    subprocess.run([sys.executable, str(script), folder], check=True, stdout=subprocess.DEVNULL)
    return folder
