"""Restoring all faces in a picture. This module imports torch, so only the worker uses it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import read_weights
from latentd_facerestore import parsing
from latentd_facerestore.alignment import cut_face, fit_similarity, paste_face
from latentd_facerestore.detection import find_faces
from latentd_facerestore.helpers import helper_file
from latentd_facerestore.network import load_face_network
from latentd_facerestore.parsing import FaceParser

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext

KIND = "face-restorer"


def restore_faces(image: Image, path: Path, context: WorkerContext, *, weight: float | None) -> Image:
    """``image`` as RGB, with every face that is found restored by the network in ``path``.

    A picture without faces is returned unchanged. The cancel check of ``context`` runs before every face.

    :raises ModelLoadError: the file is damaged, or not a face restorer.
    """
    image = image.convert("RGB")
    faces = find_faces(image, context)
    if not faces:
        return image
    restored = image.copy()
    with ExitStack() as stack:
        network = stack.enter_context(
            context.lease(KIND, path, lambda: load_face_network(path, context.device), lambda net: net.nbytes)
        )
        parser = _parser(context, stack)
        for landmarks in faces:
            context.check()
            upright = fit_similarity(landmarks)
            # Faces are cut from the original picture, so that overlapping faces are not restored twice.
            face = network.restore(cut_face(image, upright), weight)
            paste_face(restored, face, upright, parser.mask(face) if parser else None)
    if context.options["face_restoration_unload"]:
        _unload(context)
    return restored


def _parser(context: WorkerContext, stack: ExitStack) -> FaceParser | None:
    """The network that separates the face from hair and background, or None without its weights."""
    path = helper_file(parsing.FILE_NAME, context)
    if path is None:
        return None

    def load() -> FaceParser:
        return FaceParser({key: value.to(context.device) for key, value in read_weights(path).items()})

    return stack.enter_context(context.lease("face-parser", path, load, lambda net: net.nbytes))


def _unload(context: WorkerContext) -> None:
    if context.services is not None:
        context.services.models.cache.drop(KIND)
