"""The command line: ``latentd``."""

from __future__ import annotations

from latentd.cli.main import main

__all__ = ["main"]
