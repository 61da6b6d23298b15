"""The request bodies of an early-2023 description of the API, as they stand there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

SEED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "seed_bodies.json").read_text())


@pytest.mark.parametrize("endpoint", [name for name in SEED if not name.startswith("controlnet/")])
def test_no_field_is_refused(planned: TestClient, endpoint: str) -> None:
    """The bodies' placeholders ("string") name nothing, so that is what the server must object to."""
    expected = {
        "txt2img": (404, "Sampler not found"),
        "img2img": (422, "Invalid encoded image"),
        "extra-single-image": (422, "Invalid encoded image"),
        "extra-batch-images": (422, "Invalid encoded image"),
        "png-info": (422, "Invalid encoded image"),
        "interrogate": (422, "Invalid encoded image"),
    }
    reply = planned.post(f"/sdapi/v1/{endpoint}", json=SEED[endpoint])
    assert (reply.status_code, reply.json()["detail"]) == expected[endpoint]


def test_placeholder_script_is_the_next_objection(planned: TestClient) -> None:
    reply = planned.post("/sdapi/v1/txt2img", json=SEED["txt2img"] | {"sampler_name": "Euler", "hr_upscaler": None})
    assert (reply.status_code, reply.json()["detail"]) == (422, "Script 'string' not found")


@pytest.mark.parametrize("endpoint", ["txt2img", "img2img"])
def test_every_field_is_in_the_schema(planned: TestClient, endpoint: str) -> None:
    schemas = planned.get("/openapi.json").json()["components"]["schemas"]
    known = schemas[f"StableDiffusionProcessing{endpoint.capitalize().replace('2i', '2I')}"]["properties"]
    assert not set(SEED[endpoint]) - set(known)
