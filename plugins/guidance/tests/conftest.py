"""A server with the plugin on one tiny checkpoint."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentd.testing import AppFactory, tiny_models

BODY = {"prompt": "a red ring", "negative_prompt": "grey", "seed": 7, "steps": 3, "width": 64, "height": 64,
        "cfg_scale": 5, "sampler_name": "Euler"}  # fmt: skip


@dataclass
class Drawn:
    """A reply's first picture [h,w,3] and its document."""

    image: np.ndarray
    info: dict[str, Any]

    @property
    def infotext(self) -> str:
        return str(self.info["infotexts"][0])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of one server for the whole run."""
    import latentd_guidance

    folder = tmp_path_factory.mktemp("data")
    weights = tiny_models.checkpoint("sd1", 3, vae_widths=tiny_models.EIGHTH)
    tiny_models.write(folder / "models/Stable-diffusion/one.safetensors", weights)
    factory = AppFactory(folder)
    client = factory([latentd_guidance])
    client.post("/sdapi/v1/options", json={"randn_source": "CPU"})
    yield client
    factory.close()


@pytest.fixture(scope="session")
def send(server: Any) -> Callable[..., Any]:
    """``send(scripts, **fields)``: the HTTP reply to a small request with these always-on scripts, or to ``body``."""

    def run(scripts: dict[str, Any] | None = None, body: dict[str, Any] | None = None, **fields: Any) -> Any:
        asked = {title: {"args": args} for title, args in (scripts or {}).items()}
        return server.post("/sdapi/v1/txt2img", json=body or {**BODY, "alwayson_scripts": asked, **fields})

    return run


@pytest.fixture(scope="session")
def draw(send: Callable[..., Any]) -> Callable[..., Drawn]:
    """The same as :class:`Drawn`; the reply must be a success."""

    def run(scripts: dict[str, Any] | None = None, **fields: Any) -> Drawn:
        reply = send(scripts, **fields)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        picture = Image.open(io.BytesIO(base64.b64decode(body["images"][0])))
        return Drawn(np.asarray(picture.convert("RGB")), json.loads(body["info"]))

    return run


@pytest.fixture(scope="session")
def plain(draw: Callable[..., Drawn]) -> np.ndarray:
    """The picture without any technique."""
    return draw().image
