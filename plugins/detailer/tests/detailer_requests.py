"""What the tests' requests have in common."""

from __future__ import annotations

import base64
import io

from PIL import Image

BODY = {"prompt": "a red ring", "negative_prompt": "grey", "seed": 7, "steps": 2, "width": 64, "height": 64,
        "cfg_scale": 5, "sampler_name": "Euler"}  # fmt: skip
#: The size of the photograph with two faces.
WIDTH, HEIGHT = 256, 128


def png(image: Image.Image) -> str:
    """Base64 of ``image``."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
