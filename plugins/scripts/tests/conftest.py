"""A server with the plugin on one tiny checkpoint."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentd.testing import AppFactory, latentd_app, tiny_models

__all__ = ["latentd_app"]

BODY = {
    "prompt": "a red ring",
    "seed": 7,
    "steps": 2,
    "width": 64,
    "height": 64,
    "cfg_scale": 4,
    "sampler_name": "Euler",
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with checkpoints ``one`` and ``two``, of random weights."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("one", "two")):
        weights = tiny_models.checkpoint("sd1", seed, vae_widths=tiny_models.EIGHTH)
        tiny_models.write(folder / f"models/Stable-diffusion/{name}.safetensors", weights)
    return folder


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[Any]:
    """A client of one server for the whole run."""
    import latentd_scripts

    factory = AppFactory(data)
    client = factory([latentd_scripts])
    client.post("/sdapi/v1/options", json={"randn_source": "CPU", "sd_model_checkpoint": "one"})
    yield client
    factory.close()


class Reply:
    """A reply's pictures and its document."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in body["images"]]
        self.info: dict[str, Any] = json.loads(body["info"])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(image.shape[1], image.shape[0]) for image in self.images]


@pytest.fixture(scope="session")
def send(server: Any) -> Callable[..., Any]:
    """``send(path, **fields)``: the HTTP reply to a small request with these fields."""
    return lambda path, **fields: server.post(f"/sdapi/v1/{path}", json={**BODY, **fields})


@pytest.fixture(scope="session")
def draw(send: Callable[..., Any]) -> Callable[..., Reply]:
    """The same as a :class:`Reply`, which must be a success."""

    def run(path: str = "txt2img", **fields: Any) -> Reply:
        reply = send(path, **fields)
        assert reply.status_code == 200, reply.text
        return Reply(reply.json())

    return run


def png(pixels: np.ndarray) -> str:
    """Base64 of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def picture() -> str:
    """A colourful picture of 64x64, base64."""
    y, x = np.mgrid[:64, :64]
    return png(np.stack([x * 4, y * 4, 255 - x * 2], axis=-1).astype(np.uint8))


@pytest.fixture(scope="session")
def soft_mask() -> str:
    """Black on the left, white on the right, grey between; base64."""
    return png(np.clip((np.arange(64)[None].repeat(64, 0) - 16) * 8, 0, 255).astype(np.uint8))
