"""A server with the plugin and the built-in face detector on tiny checkpoints, and a photograph with two faces."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentd.api import FaceRestorerSpec, hookimpl
from latentd.testing import AppFactory, latentd_app, tiny_models

sys.path.insert(0, str(Path(__file__).parent))

from detailer_requests import BODY, HEIGHT, WIDTH, png

__all__ = ["latentd_app"]


@dataclass
class Drawn:
    """A reply's pictures [h,w,3] and its document."""

    images: list[np.ndarray]
    info: dict[str, Any]

    @property
    def infotext(self) -> str:
        return str(self.info["infotexts"][0])

    @property
    def warnings(self) -> str:
        return " ".join(self.info.get("warnings", []))


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """The astronaut twice, side by side: a face in each half."""
    from skimage import data

    half = Image.fromarray(data.astronaut()).resize((WIDTH // 2, HEIGHT), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (WIDTH, HEIGHT))
    both.paste(half, (0, 0))
    both.paste(half, (WIDTH // 2, 0))
    return both


class Whitening:
    """A plugin with a face restorer that whitens the picture."""

    __name__ = "whitening"

    @hookimpl
    def register_face_restorers(self) -> list[FaceRestorerSpec]:
        return [FaceRestorerSpec(name="White", restore=lambda image, *_: Image.new("RGB", image.size, "white"))]


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppFactory]:
    """The servers of this run, on one data folder with the checkpoints ``one`` and ``two``."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("one", 3), ("two", 5)):
        weights = tiny_models.checkpoint("sd1", seed, vae_widths=tiny_models.EIGHTH)
        tiny_models.write(folder / f"models/Stable-diffusion/{name}.safetensors", weights)
    factory = AppFactory(folder)
    yield factory
    factory.close()


@pytest.fixture(scope="session")
def server(factory: AppFactory) -> Any:
    """A client of one server for the whole run."""
    import latentd_detailer
    import latentd_facerestore

    client = factory([latentd_detailer, latentd_facerestore, Whitening()])
    client.post("/sdapi/v1/options", json={"randn_source": "CPU", "sd_model_checkpoint": "one"})
    return client


@pytest.fixture(scope="session")
def send(server: Any) -> Callable[..., Any]:
    """``send(args, **fields)``: the HTTP reply to a small request with these arguments of ADetailer."""

    def run(args: Any = None, *, images: list[Image.Image] | None = None, **fields: Any) -> Any:
        body = {**BODY, **fields}
        if args is not None:
            body["alwayson_scripts"] = {**body.get("alwayson_scripts", {}), "ADetailer": {"args": args}}
        if images is None:
            return server.post("/sdapi/v1/txt2img", json=body)
        return server.post("/sdapi/v1/img2img", json={**body, "init_images": [png(image) for image in images]})

    return run


@pytest.fixture(scope="session")
def draw(send: Callable[..., Any]) -> Callable[..., Drawn]:
    """The same as :class:`Drawn`; the reply must be a success."""

    def run(args: Any = None, **fields: Any) -> Drawn:
        reply = send(args, **fields)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        pictures = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in body["images"]]
        return Drawn([np.asarray(picture).astype(int) for picture in pictures], json.loads(body["info"]))

    return run


@pytest.fixture(scope="session")
def detailed(draw: Callable[..., Drawn], photo: Image.Image) -> Callable[..., Drawn]:
    """``detailed(*units, **fields)``: the photograph with its faces repainted, and nothing else done to it."""

    def run(*units: dict[str, Any], **fields: Any) -> Drawn:
        given = [{"ad_model": "face_mtcnn", "ad_use_steps": True, "ad_steps": 2, **unit} for unit in units or ({},)]
        size = {"width": 128, "height": 128, "images": [photo]}
        return draw([True, True, *given], **{**size, **fields})

    return run
