"""The faces in a picture, as points to align them by. Imports torch: only the worker comes here."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from latentd_facerestore.mtcnn import Mtcnn

if TYPE_CHECKING:
    from latentd.api import UpscaleContext

KIND = "face-detector"
_SHORT_SIDE = 640  # smaller pictures are enlarged to this before the search
_SMALLEST_EYE_DISTANCE = 5.0  # in pixels of the searched picture


def find_faces(image: Image.Image, context: UpscaleContext) -> list[NDArray[np.float64]]:
    """The landmarks [5,2] of each face in ``image`` (RGB), in its pixels: eyes, nose, corners of the mouth."""
    factor = max(_SHORT_SIDE / min(image.size), 1.0)
    searched = image
    if factor > 1:
        size = (int(image.width * factor), int(image.height * factor))
        searched = image.resize(size, Image.Resampling.BILINEAR)
    with as_file(files("latentd_facerestore") / "data" / "mtcnn.safetensors") as path:
        detector = context.lease(KIND, path, lambda: _load(path, context.device), lambda model: model.nbytes)
    with detector as model:
        pixels = torch.from_numpy(np.array(searched)).to(context.device)
        faces = model.detect(pixels.permute(2, 0, 1).float(), context.check)
    stretch = np.array([image.width / searched.width, image.height / searched.height])
    found = faces.landmarks.double().cpu().numpy()
    # Landmarks are pixel centres, which a change of size moves by half a pixel's difference.
    return [(points + 0.5) * stretch - 0.5 for points in found if _eye_distance(points) >= _SMALLEST_EYE_DISTANCE]


def _eye_distance(points: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(points[0] - points[1]))


def _load(path: Path, device: str) -> Mtcnn:
    return Mtcnn(load_file(path, device=device))
