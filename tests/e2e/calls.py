"""Short ways to ask a server for pictures and to look at what came."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.reference_server import ReferenceServer

INPUTS = Path(__file__).parent.parent / "reference" / "inputs"
#: What every picture here is asked for unless a test says otherwise: small, few steps, one seed.
BASE = {"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "seed": 7, "sampler_name": "Euler"}


@dataclass(frozen=True)
class Drawing:
    """An answer of txt2img or img2img."""

    images: list[Image.Image]
    raw: list[bytes]
    info: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def infotext(self) -> str:
        return str(self.info["infotexts"][0])

    @property
    def image(self) -> Image.Image:
        return self.images[0]


def draw(server: ReferenceServer, options: dict[str, Any] | None = None, /, **fields: Any) -> Drawing:
    """The answer to txt2img, or to img2img where ``init_images`` are given; ``options`` are overrides for it."""
    body = {**BASE, "override_settings": options or {}, **fields}
    endpoint = "img2img" if "init_images" in fields else "txt2img"
    status, reply = server.call("POST", f"/sdapi/v1/{endpoint}", body)
    assert status == 200, reply
    raw = [base64.b64decode(text) for text in reply["images"]]
    return Drawing([opened(data) for data in raw], raw, json.loads(reply["info"]), reply["parameters"])


def opened(data: bytes) -> Image.Image:
    """The decoded picture."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def input_text(name: str, size: tuple[int, int] | None = None) -> str:
    """Base64 text of one of the recordings' inputs, resized if asked."""
    with Image.open(INPUTS / name) as image:
        return as_text(image if size is None else image.resize(size))


def as_text(image: Image.Image) -> str:
    """Base64 text of ``image`` as PNG."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Largest difference of two pictures' samples, of 255."""
    a, b = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (one, other))
    assert a.shape == b.shape
    return float(np.abs(a - b).max())
