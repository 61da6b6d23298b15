"""How Sphinx builds the documentation; warnings are errors (``make docs``)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "latentd"
author = "the latentd authors"
release = re.search(r'__version__ = "(.+)"', (ROOT / "core/latentd/__init__.py").read_text(encoding="utf-8")).group(1)

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"latentd {release}"
language = "en"
