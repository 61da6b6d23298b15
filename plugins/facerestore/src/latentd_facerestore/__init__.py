"""Face restoration for latentd: GFPGAN and CodeFormer. This module imports neither torch nor spandrel."""

from __future__ import annotations

from latentd.api import FaceRestorerSpec, Services, hookimpl
from latentd_facerestore.restorers import RESTORERS, face_restorer

__all__ = ["register_face_restorers"]


@hookimpl
def register_face_restorers(services: Services) -> list[FaceRestorerSpec]:
    """CodeFormer and GFPGAN, whether their weights exist or not, as in AUTOMATIC1111."""
    return [face_restorer(kind, services) for kind in RESTORERS]
