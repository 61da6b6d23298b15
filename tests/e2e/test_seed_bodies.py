"""The request bodies of an early-2023 description of the API draw, once their placeholders name something.

Sizes and steps are made small, and nothing else is changed.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.calls import input_text, opened
from tests.reference_server import ReferenceServer

SEED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "api" / "data" / "seed_bodies.json").read_text())
SMALL = {"width": 64, "height": 64, "steps": 2}
NAMED = {"sampler_name": "Euler a", "script_name": None, **SMALL}
PICTURE = input_text("init128.png", (64, 64))
REPLACED = {
    "txt2img": {**NAMED, "hr_upscaler": "Latent"},
    "img2img": {**NAMED, "init_images": [PICTURE], "mask": input_text("mask128.png", (64, 64))},
}


@pytest.mark.parametrize("endpoint", REPLACED)
def test_generations(live: ReferenceServer, endpoint: str) -> None:
    body = SEED[endpoint] | REPLACED[endpoint]
    status, reply = live.call("POST", f"/sdapi/v1/{endpoint}", body)
    assert status == 200, reply
    assert opened(base64.b64decode(reply["images"][0])).size == (64, 64)
    emptied = {"init_images": None, "mask": None} if endpoint == "img2img" else {}
    for name, value in (body | emptied).items():
        assert reply["parameters"][name] == value, name
    info = json.loads(reply["info"])
    assert info["all_negative_prompts"] == ["string"]
    assert 0 <= info["seed"] <= 4294967293


def test_controlnet_with_its_placeholders(live: ReferenceServer) -> None:
    """The one body that names nothing that must be there, but for a few texts that the page's generator made up."""
    status, reply = live.call("POST", "/controlnet/txt2img", SEED["controlnet/txt2img"] | SMALL)
    assert status == 200, reply
    assert len(reply["images"]) == 1
    assert reply["parameters"]["controlnet_units"] == SEED["controlnet/txt2img"]["controlnet_units"]
    told = " ".join(json.loads(reply["info"])["warnings"])
    assert all(f"{name} is 'string'" in told for name in ("sampler_name", "script_name", "hr_upscaler"))
    status, reply = live.call(
        "POST", "/controlnet/img2img", SEED["controlnet/img2img"] | SMALL | {"init_images": [PICTURE], "mask": PICTURE}
    )
    assert (status, len(reply["images"])) == (200, 1), reply


def test_hires_fix(live: ReferenceServer) -> None:
    body = SEED["txt2img"] | REPLACED["txt2img"] | {"enable_hr": True, "denoising_strength": 0.5}
    status, reply = live.call("POST", "/sdapi/v1/txt2img", body)
    assert (status, opened(base64.b64decode(reply["images"][0])).size) == (200, (128, 128))


def test_extras(live: ReferenceServer) -> None:
    one = SEED["extra-single-image"] | {"image": PICTURE, "upscaler_1": "Lanczos"}
    status, reply = live.call("POST", "/sdapi/v1/extra-single-image", one)
    assert (status, opened(base64.b64decode(reply["image"])).size) == (200, (128, 128))
    batch = SEED["extra-batch-images"] | {
        "imageList": [{"data": PICTURE, "name": "a.png"}] * 2,
        "upscaler_1": "Nearest",
    }
    status, reply = live.call("POST", "/sdapi/v1/extra-batch-images", batch)
    assert (status, [opened(base64.b64decode(text)).size for text in reply["images"]]) == (200, [(128, 128)] * 2)


def test_png_info(live: ReferenceServer) -> None:
    status, reply = live.call("POST", "/sdapi/v1/png-info", {"image": input_text("withinfo.png")})
    assert status == 200
    assert {"info", "items", "parameters"} <= set(reply)
