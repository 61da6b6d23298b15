"""Contracts of ControlNet's endpoints, which latentd-controlnet brings."""

from __future__ import annotations

from tests.compat.contract import SMALL, contract, get, post
from tests.compat.pictures import encoded
from tests.reference_server import ReferenceServer

UNIT = {"model": "control_tiny_canny", "module": "none"}
STRICT = "a unit that cannot act is a [422](#errors)"


@contract("GET /controlnet/version", "exact")
def version(server: ReferenceServer) -> None:
    assert get(server, "/controlnet/version") == {"version": 3}


@contract("GET /controlnet/model_list", "exact")
def model_list(server: ReferenceServer) -> None:
    names = get(server, "/controlnet/model_list?update=true")["model_list"]
    assert any(name.startswith("control_tiny_canny [") for name in names)
    assert "None" not in names


@contract("GET /controlnet/module_list", "exact")
def module_list(server: ReferenceServer) -> None:
    found = get(server, "/controlnet/module_list")
    assert list(found) == ["module_list", "module_detail"]
    assert list(found["module_detail"]["canny"]) == ["model_free", "sliders"]
    aliases = get(server, "/controlnet/module_list?alias_names=true")["module_list"]
    assert "softedge_pidinet" in aliases
    assert "pidinet" in found["module_list"]


@contract("GET /controlnet/control_types", "exact")
def control_types(server: ReferenceServer) -> None:
    found = get(server, "/controlnet/control_types")["control_types"]
    assert list(found["Canny"]) == ["module_list", "model_list", "default_option", "default_model"]
    assert found["Canny"]["default_option"] == "canny"


@contract("GET /controlnet/settings", "exact")
def settings(server: ReferenceServer) -> None:
    assert get(server, "/controlnet/settings") == {"control_net_unit_count": 3}


@contract("POST /controlnet/detect", "superset", "the request's pictures are bounded; missing weights name their file")
def detect(server: ReferenceServer) -> None:
    body = {"controlnet_module": "canny", "controlnet_input_images": [encoded("init128.png")]}
    found = post(server, "/controlnet/detect", body)
    assert (len(found["images"]), found["info"]) == (1, "Success")


@contract("POST /controlnet/render_openpose_json", "exact")
def render_openpose_json(server: ReferenceServer) -> None:
    assert post(server, "/controlnet/render_openpose_json", []) == {"info": "No pose data detected."}
    pose = {"people": [], "canvas_width": 64, "canvas_height": 64}
    assert post(server, "/controlnet/render_openpose_json", [pose])["info"] == "Success"


@contract("POST /controlnet/txt2img", "different", f"early 2023's; {STRICT}")
def txt2img(server: ReferenceServer) -> None:
    unit = UNIT | {"input_image": encoded("edges128.png")}
    assert list(post(server, "/controlnet/txt2img", SMALL | {"controlnet_units": [unit]})) == [
        "images",
        "parameters",
        "info",
    ]
    assert server.call("POST", "/controlnet/txt2img", SMALL | {"controlnet_units": [UNIT]})[0] == 422


@contract("POST /controlnet/img2img", "different", f"early 2023's; {STRICT}")
def img2img(server: ReferenceServer) -> None:
    body = SMALL | {"init_images": [encoded("init128.png")], "controlnet_units": [UNIT]}
    assert post(server, "/controlnet/img2img", body)["images"]
    missing = UNIT | {"model": "no such model"}
    assert server.call("POST", "/controlnet/img2img", body | {"controlnet_units": [missing]})[0] == 422
