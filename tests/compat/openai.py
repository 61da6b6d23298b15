"""Contracts of OpenAI's images API, which the plugin ``latentd-openai`` serves."""

from __future__ import annotations

import base64
import io
import urllib.request
from typing import Any

from PIL import Image

from tests.compat.contract import contract, get, post
from tests.reference_server import ReferenceServer

SMALL: dict[str, Any] = {"prompt": "circle", "steps": 2, "size": "64x64", "seed": 7, "model": "tiny-a"}


def _picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (40, 90, 200)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(entry["b64_json"]))).size


@contract("POST /v1/images/generations", "latentd's own", "OpenAI's, with seed, steps and other parameters beside")
def generations(server: ReferenceServer) -> None:
    answer = post(server, "/v1/images/generations", SMALL | {"n": 2})
    assert ([_size(entry) for entry in answer["data"]], answer["size"]) == ([(64, 64)] * 2, "64x64")
    status, refused = server.call("POST", "/v1/images/generations", SMALL | {"model": "none"})
    assert (status, refused["error"]["code"]) == (404, "model_not_found")


@contract("POST /v1/images/edits", "latentd's own", "OpenAI's: what is transparent is repainted; one picture at a time")
def edits(server: ReferenceServer) -> None:
    answer = post(server, "/v1/images/edits", SMALL | {"image": _picture()})
    assert _size(answer["data"][0]) == (64, 64)


@contract("POST /v1/images/variations", "latentd's own", "OpenAI's: img2img without words")
def variations(server: ReferenceServer) -> None:
    answer = post(server, "/v1/images/variations", {"image": _picture(), "model": "tiny-a", "steps": 2})
    assert _size(answer["data"][0]) == (64, 64)


@contract("GET /v1/images/files/{name}", "latentd's own", "a picture at the address that `response_format: url` gave")
def files(server: ReferenceServer) -> None:
    url = post(server, "/v1/images/generations", SMALL | {"response_format": "url"})["data"][0]["url"]
    with urllib.request.urlopen(url, timeout=30) as reply:
        assert reply.headers["Content-Type"] == "image/png"
    assert server.call("GET", "/v1/images/files/0.png?job=x&signature=y")[0] == 404


@contract("GET /v1/models", "latentd's own", "OpenAI's: every checkpoint")
def models(server: ReferenceServer) -> None:
    assert "tiny-a" in {row["id"] for row in get(server, "/v1/models")["data"]}


@contract("GET /v1/models/{model_id}", "latentd's own", "OpenAI's: one checkpoint")
def model(server: ReferenceServer) -> None:
    assert get(server, "/v1/models/tiny-a")["object"] == "model"
    assert server.call("GET", "/v1/models/none")[0] == 404
