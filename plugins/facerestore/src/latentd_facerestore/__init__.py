"""Face restoration for latentd: GFPGAN and CodeFormer, and a face detector. This imports neither torch nor spandrel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Detection, DetectorSpec, FaceRestorerSpec, Services, hookimpl
from latentd_facerestore.restorers import RESTORERS, face_restorer

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext

__all__ = ["register_detectors", "register_face_restorers"]


@hookimpl
def register_face_restorers(services: Services) -> list[FaceRestorerSpec]:
    """CodeFormer and GFPGAN, whether their weights exist or not, as in AUTOMATIC1111."""
    return [face_restorer(kind, services) for kind in RESTORERS]


@hookimpl
def register_detectors(services: Services) -> list[DetectorSpec]:
    """MTCNN, whose weights are part of the package."""
    return [DetectorSpec(name="face_mtcnn", detect=_faces, labels=("face",))]


def _faces(image: Image, confidence: float, context: WorkerContext) -> list[Detection]:
    from latentd_facerestore.detection import detect_faces

    return detect_faces(image, confidence, context)
