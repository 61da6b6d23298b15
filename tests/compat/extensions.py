"""Contracts of endpoints of extensions: taggers (latentd-interrogators) and background removal (latentd-rembg)."""

from __future__ import annotations

from tests.compat.contract import contract, get, post
from tests.compat.pictures import encoded
from tests.reference_server import ReferenceServer


@contract(
    "POST /tagger/v1/interrogate",
    "different",
    "as the tagger extensions: `caption` has `rating` and `tag`, or all in one by option `tagger_caption_form`; "
    "`queue` and `name_in_queue` are refused; weights are never downloaded",
)
def interrogate(server: ReferenceServer) -> None:
    body = {"image": encoded("init128.png"), "threshold": 0.35}
    status, answer = server.call("POST", "/tagger/v1/interrogate", body | {"model": "wd14-vit-v2-git"})
    assert status == 422
    assert "models/WD14/wd-v1-4-vit-tagger-v2" in answer["detail"]
    assert server.call("POST", "/tagger/v1/interrogate", body | {"model": "none"})[1]["detail"] == "Model not found"


@contract("GET /tagger/v1/interrogators", "different", "as the tagger extensions; only taggers whose files are there")
def interrogators(server: ReferenceServer) -> None:
    assert get(server, "/tagger/v1/interrogators") == {"models": []}


@contract("POST /tagger/v1/unload-interrogators", "exact")
def unload(server: ReferenceServer) -> None:
    assert post(server, "/tagger/v1/unload-interrogators") == "Successfully unload 0 model(s)"


_WEIGHTS = "always a PNG; a name of rembg's whose weights are missing is a 422, and nothing is downloaded"


def _removes(server: ReferenceServer, path: str) -> None:
    status, answer = server.call("POST", path, {"input_image": encoded("init128.png"), "model": "silueta"})
    assert status == 422
    assert answer["detail"].startswith("model 'silueta' has no weights: silueta.onnx is missing in ")


@contract("POST /rembg", "different", f"as AUTOMATIC1111's extension; {_WEIGHTS}")
def rembg(server: ReferenceServer) -> None:
    _removes(server, "/rembg")
    assert post(server, "/rembg", {"model": "None"}) is None


@contract("POST /sdapi/v1/rembg", "different", f"as SD.Next; {_WEIGHTS}")
def sdnext_rembg(server: ReferenceServer) -> None:
    _removes(server, "/sdapi/v1/rembg")
    assert post(server, "/sdapi/v1/rembg", {"model": "None"}) == {}
