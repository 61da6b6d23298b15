"""A whole picture with its faces restored. Imports torch: only the worker comes here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentd_facerestore.alignment import cut_face, fit_similarity, paste_face
from latentd_facerestore.detection import find_faces
from latentd_facerestore.network import load_face_network

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import UpscaleContext

KIND = "face-restorer"


def restore_faces(image: Image, path: Path, context: UpscaleContext, *, weight: float | None) -> Image:
    """``image`` as RGB with every face that is found restored by the network in ``path``.

    A picture without faces is returned as it is. The cancel check of ``context`` runs before every face.

    :raises ModelLoadError: the file is damaged or no face restorer.
    """
    image = image.convert("RGB")
    faces = find_faces(image, context)
    if not faces:
        return image
    restored = image.copy()
    with context.lease(
        KIND, path, lambda: load_face_network(path, context.device), lambda network: network.nbytes
    ) as network:
        for landmarks in faces:
            context.check()
            upright = fit_similarity(landmarks)
            # Cut from the picture as it was: a face that overlaps another is not restored twice.
            paste_face(restored, network.restore(cut_face(image, upright), weight), upright)
    if context.options["face_restoration_unload"]:
        _unload(context)
    return restored


def _unload(context: UpscaleContext) -> None:
    cache = getattr(getattr(context.services, "models", None), "cache", None)
    if cache is not None:
        cache.drop(KIND)
