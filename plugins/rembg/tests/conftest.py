"""Fixtures of these tests."""

from __future__ import annotations

import sys
from pathlib import Path

from latentd.testing import latentd_app

sys.path.insert(0, str(Path(__file__).parent))

__all__ = ["latentd_app"]
