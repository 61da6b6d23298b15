"""Contracts of the face detailer's endpoints, which latentd-detailer brings."""

from __future__ import annotations

from tests.compat.contract import contract, get
from tests.reference_server import ReferenceServer


@contract("GET /adetailer/v1/version", "exact")
def version(server: ReferenceServer) -> None:
    assert list(get(server, "/adetailer/v1/version")) == ["version"]


@contract(
    "GET /adetailer/v1/schema", "different", "the unit's keys, defaults and bounds are the original's; it refuses none"
)
def schema(server: ReferenceServer) -> None:
    found = get(server, "/adetailer/v1/schema")
    properties = found["properties"]
    assert (
        properties["ad_denoising_strength"] | {"default": 0.4, "minimum": 0, "maximum": 1}
        == properties["ad_denoising_strength"]
    )
    assert (len(properties), properties["ad_model"]["default"]) == (43, "None")
    assert found.get("additionalProperties") is not False


@contract(
    "GET /adetailer/v1/ad_model",
    "different",
    "files of `models/adetailer` and `face_mtcnn`, which needs none; nothing is downloaded",
)
def models(server: ReferenceServer) -> None:
    assert "face_mtcnn" in get(server, "/adetailer/v1/ad_model")["ad_model"]
