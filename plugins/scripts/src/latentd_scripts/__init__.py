"""AUTOMATIC1111's scripts for latentd. Importing this pulls in no torch."""

from __future__ import annotations

from latentd.api import Script, hookimpl
from latentd_scripts.soft_inpainting import SoftInpainting

__all__ = ["register_scripts"]


@hookimpl
def register_scripts() -> list[Script]:
    """The selectable scripts in AUTOMATIC1111's order, and soft inpainting."""
    return [SoftInpainting()]
