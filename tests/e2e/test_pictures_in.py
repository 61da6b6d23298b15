"""Every door by which a picture comes in gives the same for a deep or turned file as for a plain one."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.e2e.calls import BASE, as_text, input_text, opened
from tests.images.png_files import png_file
from tests.reference_server import ReferenceServer

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
INIT = input_text("init128.png", (64, 64))
HALF = {"init_images": [INIT], "denoising_strength": 0.5, "inpaint_full_res": False, "mask_blur": 0}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.3}
#: Door: the path, and the body that has the picture in it.
DOORS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "init": ("/sdapi/v1/img2img", lambda text: BASE | {"init_images": [text], "denoising_strength": 0.3}),
    "mask": ("/sdapi/v1/img2img", lambda text: BASE | HALF | {"mask": text}),
    "latent-mask": ("/sdapi/v1/img2img", lambda text: BASE | HALF | {"mask": INIT, "latent_mask": text}),
    "first-pass": ("/sdapi/v1/txt2img", lambda text: BASE | HIRES | {"firstpass_image": text}),
    "first-pass-pixels": (
        "/sdapi/v1/txt2img",
        lambda text: BASE | HIRES | {"firstpass_image": text, "hr_upscaler": "Lanczos"},
    ),
    "extra-single": ("/sdapi/v1/extra-single-image", lambda text: {"image": text, "upscaler_1": "Lanczos"}),
    "extra-batch": ("/sdapi/v1/extra-batch-images", lambda text: {"imageList": [{"data": text, "name": "a.png"}]}),
    "detect": ("/controlnet/detect", lambda text: {"controlnet_module": "invert", "controlnet_input_images": [text]}),
    "unit": ("/sdapi/v1/txt2img", lambda text: BASE | _unit({"image": text})),
    "unit-mask": ("/sdapi/v1/txt2img", lambda text: BASE | _unit({"image": INIT, "mask": text})),
    "unit-region": ("/sdapi/v1/txt2img", lambda text: BASE | _unit({"image": INIT, "effective_region_mask": text})),
    "sd-upscale": (
        "/sdapi/v1/img2img",
        lambda text: (
            BASE
            | {"init_images": [text], "denoising_strength": 0.3, "script_name": "SD upscale"}
            | {"script_args": ["", 16, "Lanczos", 1.5]}
        ),
    ),
    "outpainting": (
        "/sdapi/v1/img2img",
        lambda text: (
            BASE
            | {"init_images": [text], "script_name": "Poor man's outpainting", "script_args": [16, 4, "fill", ["left"]]}
        ),
    ),
}


def _unit(fields: dict[str, Any]) -> dict[str, Any]:
    unit = {"module": "none", "model": "control_tiny_canny", **fields}
    return {"alwayson_scripts": {"controlnet": {"args": [unit]}}}


def _deep(levels: np.ndarray) -> str:
    return base64.b64encode(png_file(levels.astype(np.uint16) * 257)).decode()


def _turned(levels: np.ndarray) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(levels))).save(out, "PNG", exif=exif)
    return base64.b64encode(out.getvalue()).decode()


def _plain(levels: np.ndarray) -> str:
    return base64.b64encode(png_file(levels)).decode()


@pytest.mark.parametrize("door", DOORS)
def test_every_door(live: ReferenceServer, door: str) -> None:
    path, body = DOORS[door]
    wanted = _answer(live, path, body(_plain(RAMP)))
    assert wanted != _answer(live, path, body(_plain(RAMP.T.copy()))), "the picture does not count"
    for written in (_deep, _turned):
        assert _answer(live, path, body(written(RAMP))) == wanted, written.__name__


def _answer(server: ReferenceServer, path: str, body: dict[str, Any]) -> list[bytes]:
    status, reply = server.call("POST", path, body)
    assert status == 200, reply
    texts = reply["images"] if "images" in reply else [reply["image"]]
    return [opened(base64.b64decode(text)).tobytes() for text in texts]


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_a_given_first_pass_is_the_one_that_would_have_been(live: ReferenceServer, upscaler: str) -> None:
    def drawn(**fields: Any) -> np.ndarray:
        body = BASE | {"override_settings": {"sd_vae": "det-vae.safetensors"}} | fields
        return np.frombuffer(_answer(live, "/sdapi/v1/txt2img", body)[0], np.uint8).astype(int)

    first = Image.fromarray(drawn().reshape(64, 64, 3).astype(np.uint8))
    hires = HIRES | {"hr_upscaler": upscaler}
    wanted, given = drawn(**hires), drawn(**hires, firstpass_image=as_text(first))
    turned = drawn(**hires, firstpass_image=as_text(first.rotate(90)))
    # Where the latent is enlarged, the picture had to be encoded again.
    most = 0 if upscaler == "Lanczos" else np.abs(turned - wanted).mean() * 0.8
    assert np.abs(given - wanted).mean() <= most < np.abs(turned - wanted).mean()
