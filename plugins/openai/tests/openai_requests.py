"""What the tests send, and what comes back."""

from __future__ import annotations

import base64
import io

from PIL import Image

KEY = "sk-test"


def png(image: Image.Image) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def picture(b64: str) -> Image.Image:
    """The picture in base64."""
    return Image.open(io.BytesIO(base64.b64decode(b64)))
