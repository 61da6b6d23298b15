"""Contracts of the tagger extensions' endpoints, which latentd-interrogators brings; these are of no AUTOMATIC1111."""

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
