"""Contracts of the endpoints that draw pictures and read them."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.compat.contract import SMALL, contract, post
from tests.reference_server import ReferenceServer

INPUTS = Path(__file__).parent.parent / "reference" / "inputs"


def encoded(name: str) -> str:
    """An input picture of the recordings in base64."""
    return base64.b64encode((INPUTS / name).read_bytes()).decode()


def raw(server: ReferenceServer, path: str, body: dict[str, Any], accept: str) -> tuple[str, str, bytes]:
    """(content type, job id, bytes) of a POST."""
    headers = {"Content-Type": "application/json", "Accept": accept}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as reply:
        return reply.headers["Content-Type"], reply.headers["X-Latentd-Job"], reply.read()


MORE = "the job's id in `X-Latentd-Job`, the picture's bytes by `Accept: image/png`, fields of 1.9 and 1.10"


def _drawn(server: ReferenceServer, path: str, body: dict[str, Any], width: int) -> None:
    answer = post(server, path, body | {"scheduler": "Karras"})
    assert list(answer) == ["images", "parameters", "info"]
    assert answer["parameters"]["prompt"] == "circle"
    info = json.loads(answer["info"])
    assert info["infotexts"][0].startswith("circle\nSteps: 2, ")
    assert (info["seed"], info["width"], info["all_seeds"]) == (7, width, [7])
    kind, job, data = raw(server, path, body, "image/png")
    assert (kind, data[:4]) == ("image/png", b"\x89PNG")
    assert job.startswith("task(")


@contract("POST /sdapi/v1/txt2img", "superset", f"{MORE}; [pictures](#pictures), [errors](#errors)")
def txt2img(server: ReferenceServer) -> None:
    _drawn(server, "/sdapi/v1/txt2img", SMALL, 64)


@contract("POST /sdapi/v1/img2img", "superset", f"{MORE}; [pictures](#pictures), [errors](#errors)")
def img2img(server: ReferenceServer) -> None:
    _drawn(server, "/sdapi/v1/img2img", SMALL | {"init_images": [encoded("init128.png")], "width": 128}, 128)


@contract("POST /sdapi/v1/extra-single-image", "exact")
def extra_single_image(server: ReferenceServer) -> None:
    body = {"image": encoded("small64.png"), "upscaler_1": "Lanczos", "upscaling_resize": 2}
    answer = post(server, "/sdapi/v1/extra-single-image", body)
    assert list(answer) == ["html_info", "image"]
    assert answer["html_info"].startswith("<p>Postprocess upscale by: 2")


@contract("POST /sdapi/v1/extra-batch-images", "exact")
def extra_batch_images(server: ReferenceServer) -> None:
    pictures = [{"data": encoded("small64.png"), "name": name} for name in ("a.png", "b.png")]
    body = {"imageList": pictures, "upscaler_1": "Nearest", "upscaling_resize": 2}
    answer = post(server, "/sdapi/v1/extra-batch-images", body)
    assert list(answer) == ["html_info", "images"]
    assert len(answer["images"]) == 2
    status, problem = server.call("POST", "/sdapi/v1/extra-batch-images", {"imageList": [{"data": ""}]})
    assert (status, problem["detail"][0]["msg"]) == (422, "field required")


@contract("POST /sdapi/v1/png-info", "superset", "reads AVIF; the infotext is in `items` too, as in early 2023")
def png_info(server: ReferenceServer) -> None:
    answer = post(server, "/sdapi/v1/png-info", {"image": encoded("withinfo.png")})
    assert list(answer) == ["info", "items", "parameters"]
    assert answer["items"]["parameters"] == answer["info"]
    assert answer["parameters"]["Sampler"]


@contract(
    "POST /sdapi/v1/interrogate",
    "different",
    "missing weights are a 422 that says what to put where, where the original's caption is `<error>`",
)
def interrogate(server: ReferenceServer) -> None:
    body = {"image": encoded("small64.png"), "model": "clip"}
    status, problem = server.call("POST", "/sdapi/v1/interrogate", body)
    assert status == 422
    assert "no BLIP model in" in problem["detail"]
    assert server.call("POST", "/sdapi/v1/interrogate", body | {"model": "none"})[1]["detail"] == "Model not found"
    assert server.call("POST", "/sdapi/v1/interrogate", {"image": None})[1]["detail"] == "Image not found"
