"""Finding the faces in a picture, by landmarks or boxes. This module imports torch, so only the worker uses it."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from latentd.api import Detection, read_weights
from latentd_facerestore import retinaface
from latentd_facerestore.faces import Faces
from latentd_facerestore.helpers import helper_file
from latentd_facerestore.mtcnn import Mtcnn
from latentd_facerestore.retinaface import RetinaFace

if TYPE_CHECKING:
    from latentd.api import WorkerContext

KIND = "face-detector"
FACE = "face"
_SHORT_SIDE = 640  # of the searched picture
_SMALLEST_EYE_DISTANCE = 5.0  # in pixels of the searched picture


def find_faces(image: Image.Image, context: WorkerContext) -> list[NDArray[np.float64]]:
    """The landmarks [5,2] of each face in ``image`` (RGB), in its pixels: eyes, nose, corners of the mouth.

    RetinaFace is used if its weights are in the folders of models, else MTCNN, whose weights are part of the package.
    """
    better = helper_file(retinaface.FILE_NAME, context)
    searched = _searched(image, reduce=better is not None)
    faces = _search(searched, better, context)
    stretch = np.array([image.width / searched.width, image.height / searched.height])
    found = faces.landmarks.double().cpu().numpy()
    # Landmarks are centres of pixels, which a change of size shifts by half of the change in a pixel's width.
    return [(points + 0.5) * stretch - 0.5 for points in found if _eye_distance(points) >= _SMALLEST_EYE_DISTANCE]


def detect_faces(image: Image.Image, confidence: float, context: WorkerContext) -> list[Detection]:
    """The faces that MTCNN finds in ``image`` (RGB) with a score of at least ``confidence``, surest first.

    Its own least score is 0.7: below that it tells none.
    """
    searched = _searched(image, reduce=False)
    faces = _search(searched, None, context)
    edges = np.array([image.width, image.height] * 2, dtype=np.float64)
    stretch = edges / ([searched.width, searched.height] * 2)
    boxes = np.clip(faces.boxes.double().cpu().numpy() * stretch, 0, edges)
    return [
        Detection(box=(left, top, right, bottom), score=score, label=FACE)
        for (left, top, right, bottom), score in zip(boxes.tolist(), faces.scores.tolist(), strict=True)
        if score >= confidence and right > left and bottom > top
    ]


def _searched(image: Image.Image, *, reduce: bool) -> Image.Image:
    """``image``, enlarged where it is small; with ``reduce`` made smaller where it is large.

    MTCNN uses its own pyramid of sizes, and finds small faces in large pictures better at full size.
    """
    factor = _SHORT_SIDE / min(image.size)
    if factor <= 1 and not (reduce and factor < 1):
        return image
    size = (max(int(image.width * factor), 1), max(int(image.height * factor), 1))
    return image.resize(size, Image.Resampling.LANCZOS)


def _search(image: Image.Image, better: Path | None, context: WorkerContext) -> Faces:
    pixels = torch.from_numpy(np.array(image)).to(context.device).permute(2, 0, 1).float()
    if better is not None:
        with context.lease(KIND, better, lambda: _retinaface(better, context.device), lambda net: net.nbytes) as net:
            return net.detect(pixels, context.check)
    with (
        as_file(files("latentd_facerestore") / "data" / "mtcnn.safetensors") as path,
        context.lease(KIND, path, lambda: Mtcnn(load_file(path, device=context.device)), lambda net: net.nbytes) as own,
    ):
        return own.detect(pixels, context.check)


def _retinaface(path: Path, device: str) -> RetinaFace:
    return RetinaFace({key.removeprefix("module."): value.to(device) for key, value in read_weights(path).items()})


def _eye_distance(points: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(points[0] - points[1]))
