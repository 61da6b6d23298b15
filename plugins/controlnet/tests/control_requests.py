"""What the tests send and how they read pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

BODY = {"prompt": "a ring", "seed": 7, "steps": 3, "width": 64, "height": 64, "cfg_scale": 4, "sampler_name": "Euler"}


def png(image: Image.Image) -> str:
    """Base64 of ``image``."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(text: str) -> np.ndarray:
    """RGB of a reply's picture."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
