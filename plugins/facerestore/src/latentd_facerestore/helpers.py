"""Weights of facexlib that AUTOMATIC1111 keeps beside its restorers; they are used if they exist, but not needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import find_models

if TYPE_CHECKING:
    from latentd.api import WorkerContext

_FOLDERS = ("GFPGAN", "Codeformer", "facexlib")


def helper_file(name: str, context: WorkerContext) -> Path | None:
    """The first file called ``name`` in the folders of face models, or None."""
    if context.services is None:
        return None
    for kind in _FOLDERS:
        for folder in context.services.paths.models(kind):
            for found in find_models(folder, (Path(name).suffix,)):
                if found.path.name == name:
                    return found.path
    return None
