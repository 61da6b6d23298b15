"""Through the server: recorded pictures, refusals, and the answers without the plugin."""

from __future__ import annotations

import base64
import io
import shutil

import latentd_upscalers
import numpy as np
import pytest
from PIL import Image

from latentd.api import install_hint

EXTRAS = "/sdapi/v1/extra-single-image"


def encoded(path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(float)


CASES = {
    "small96x64_2x.png": {"upscaling_resize": 2, "upscaler_1": "TinyRRDB_x4"},
    "small96x64_crop.png": {
        "resize_mode": 1, "upscaling_resize_w": 160, "upscaling_resize_h": 160, "upscaling_crop": True,
        "upscaler_1": "TinyRRDB_x4",
    },
    "small96x64_two.png": {
        "upscaling_resize": 2, "upscaler_1": "Lanczos", "upscaler_2": "TinyRRDB_x4",
        "extras_upscaler_2_visibility": 0.4,
    },
}  # fmt: skip


@pytest.fixture
def client(latentd_app, tiny):
    return latentd_app(plugins=[latentd_upscalers])


@pytest.mark.parametrize("name", list(CASES))
def test_recorded_pictures(client, recorded, name):
    reply = client.post(EXTRAS, json=CASES[name] | {"image": encoded(recorded / "small96x64.png")})
    assert reply.status_code == 200, reply.text
    expected = np.asarray(Image.open(recorded / name).convert("RGB")).astype(float)
    error = np.mean((picture(reply.json()["image"]) - expected) ** 2)
    assert error <= 255**2 / 10**5.5  # 55 dB


def test_a_network_is_loaded_once_and_only_a_few_are_kept(client, latentd_app, recorded, tiny):
    cache = client.app.state.services.models.cache
    for name in ("second", "third"):
        shutil.copy(tiny, tiny.with_name(f"{name}.pth"))
    assert client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
    latentd_app.host.refresh_upscalers()
    for name in (tiny.stem, tiny.stem, "second", "third"):
        body = {"image": encoded(recorded / "small96x64.png"), "upscaler_1": name}
        assert client.post(EXTRAS, json=body).status_code == 200
    loaded = cache.loaded("upscaler")
    assert len(loaded) == 2
    assert cache.nbytes == 2 * loaded[0].nbytes
    assert tiny.stat().st_size < loaded[0].nbytes < 2 * tiny.stat().st_size  # stored in half precision, run in single


def test_a_missing_file_is_named(client, latentd_app, recorded):
    body = {"image": encoded(recorded / "small96x64.png"), "upscaler_1": "R-ESRGAN 4x+"}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 422
    folder = latentd_app.data_dir / "models" / "RealESRGAN"
    assert reply.json()["detail"].endswith(f"RealESRGAN_x4plus.pth is missing in {folder}")
    second = body | {"upscaler_1": "Lanczos", "upscaler_2": "LDSR", "extras_upscaler_2_visibility": 0.5}
    assert client.post(EXTRAS, json=second).status_code == 422
    assert client.post(EXTRAS, json=second | {"extras_upscaler_2_visibility": 0}).status_code == 200


def test_a_damaged_file_fails_its_request_and_no_other(client, recorded, tiny):
    tiny.write_bytes(tiny.read_bytes()[:-1000])
    body = {"image": encoded(recorded / "small96x64.png"), "upscaler_1": tiny.stem}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 422
    assert "TinyRRDB_x4.pth" in reply.json()["detail"]
    assert client.post(EXTRAS, json=body | {"upscaler_1": "Nearest"}).status_code == 200


def test_without_the_plugin(latentd_app, tiny, recorded):
    client = latentd_app()
    assert [row["name"] for row in client.get("/sdapi/v1/upscalers").json()] == ["None", "Lanczos", "Nearest"]
    assert len(client.get("/sdapi/v1/realesrgan-models").json()) == 6
    body = {"image": encoded(recorded / "small96x64.png"), "upscaler_1": "R-ESRGAN 4x+"}
    reply = client.post(EXTRAS, json=body)
    assert reply.status_code == 404
    assert reply.json()["detail"] == "could not find upscaler named R-ESRGAN 4x+"
    assert reply.json()["hint"] == install_hint("upscalers")
