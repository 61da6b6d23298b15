"""A server with the plugin on a data folder of tiny models of every kind."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentd.testing import AppFactory, latentd_app, tiny_models

sys.path.insert(0, str(Path(__file__).parent))

import control_files as files
from control_requests import BODY, png

__all__ = ["latentd_app"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing speaks to a hub: connections to other machines fail."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a connection to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def control_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints ``one`` (SD1), ``two`` (SDXL) and ``three`` (inpainting), and a control model of every kind."""
    data = tmp_path_factory.mktemp("data")
    checkpoints, control = data / "models/Stable-diffusion", data / "models/ControlNet"
    weights = files.checkpoint("sd1")
    for name, family in (("one", "sd1"), ("two", "sdxl"), ("three", "inpainting")):
        tiny_models.write(checkpoints / f"{name}.safetensors", files.checkpoint(family))
    encoder = files.base_encoder(weights)
    net = files.controlnet(encoder)
    lora, full = files.control_lora(encoder)
    difference = {k: v - encoder[k] if k in encoder else v for k, v in net.items()} | {"difference": files.random(1)}
    made = {
        "net": {f"control_model.{key}": value for key, value in net.items()},
        "net_diffusers": files.to_diffusers(net),
        "net_difference": {f"control_model.{key}": value for key, value in difference.items()},
        "net_shuffle": {f"control_model.{key}": value for key, value in net.items()},
        "control_lora": lora,
        "control_full": full,
        "net_xl": files.controlnet(files.base_encoder(files.checkpoint("sdxl"))),
        "control_instant_id": files.controlnet(files.base_encoder(files.checkpoint("sdxl"))),
        "net_union": files.union(),
        "t2i": files.adapter(),
        "t2i_diffusers": files.adapter_to_diffusers(files.adapter()),
        "t2i_light": files.light_adapter(),
        "style": files.style_adapter(),
        # Cross-attentions of the tiny UNet: one in the encoder, two in the decoder, one in the middle.
        "ip": files.ip_adapter([32, 32, 32, 64]),
        "ip_plus": files.ip_adapter_plus([32, 32, 32, 64]),
        "lllite": files.lllite(),
        "ip_large": files.ip_adapter([32, 32, 32, 64], embedding=1280),
        "ip_faceid": files.face_adapter([32, 32, 32, 64]),
        "ip_faceid_plus": files.face_adapter_plus([32, 32, 32, 64]),
        "ip_faceid_plusv2": files.face_adapter_plus([32, 32, 32, 64]),
        "ip_pulid": files.pulid_adapter([32, 32, 32, 64]),
        "sparse": files.sparse(),
        "ip_instant_id": files.ip_adapter_plus([64] * 8, context=64, embedding=512),
        "nonsense": {"weight": files.random(2, 2)},
    }
    for name, content in made.items():
        files.write(control / f"{name}.safetensors", content)
    for name, projected in (("clip_h", 24), ("clip_vitl", 24), ("clip_g", 1280)):
        files.write(control / f"annotator/{name}.safetensors", files.clip_vision(projected=projected))
    return data


@pytest.fixture(scope="session")
def server(control_data: Path) -> Iterator[Any]:
    """A client of one server for the whole run; it draws its noise on the CPU."""
    import latentd_controlnet

    factory = AppFactory(control_data)
    client = factory([latentd_controlnet])
    client.post("/sdapi/v1/options", json={"randn_source": "CPU", "sd_model_checkpoint": "one"})
    yield client
    factory.close()


@pytest.fixture(scope="session")
def circle() -> str:
    """A white ring on black, 64 pixels, base64."""
    y, x = np.mgrid[:64, :64] - 32
    ring = abs(np.hypot(x, y) - 20) < 3
    return png(Image.fromarray(np.where(ring, 255, 0).astype(np.uint8)).convert("RGB"))


@pytest.fixture(scope="session")
def half_mask() -> str:
    """White on the left half, 64 pixels, base64."""
    return png(Image.fromarray(np.where(np.arange(64)[None] < 32, 255, 0).repeat(64, 0).astype(np.uint8)))


@pytest.fixture(scope="session")
def generate(server: Any) -> Callable[..., dict[str, Any]]:
    """``generate(*units, path=..., **fields)``: the reply's body, which must be a success."""

    def run(*units: Any, path: str = "/sdapi/v1/txt2img", **fields: Any) -> dict[str, Any]:
        scripts = {"alwayson_scripts": {"controlnet": {"args": list(units)}}} if units else {}
        reply = server.post(path, json={**BODY, **scripts, **fields})
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body

    return run


@pytest.fixture(scope="module")
def folder(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of preprocessors' weights that the server looks into; what was loaded from it is dropped in the end."""
    found = tmp_path_factory.mktemp("weights")
    server.post("/sdapi/v1/options", json={"control_net_modules_path": str(found)})
    yield found
    server.post("/sdapi/v1/options", json={"control_net_modules_path": ""})
    server.app.state.services.models.cache.drop("annotator")
