"""The routes of the extension, its errors, and what clients of both generations send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from control_requests import BODY, pixels

from latentd.api import PreprocessorSpec, hookimpl, install_hint


def test_lists(server: Any) -> None:
    assert server.get("/controlnet/version").json() == {"version": 3}
    assert server.get("/controlnet/settings").json() == {"control_net_unit_count": 3}
    titles = server.get("/controlnet/model_list").json()["model_list"]
    assert "net [e3b0c442]" in titles or any(title.startswith("net [") for title in titles)
    assert not any(title.startswith("clip_h") for title in titles)
    modules = server.get("/controlnet/module_list").json()
    assert modules["module_list"][:3] == ["none", "ip-adapter-auto", "tile_resample"]
    assert "binary" not in modules["module_list"]
    assert modules["module_detail"]["canny"]["sliders"][1] == {
        "name": "Low Threshold", "value": 100, "min": 1, "max": 255, "step": 1,
    }  # fmt: skip
    labels = server.get("/controlnet/module_list?alias_names=true").json()["module_list"]
    assert "depth_midas" in labels
    types = server.get("/controlnet/control_types").json()["control_types"]
    assert next(iter(types)) == "All"
    assert types["Depth"]["default_option"] == "depth_midas"
    assert types["Shuffle"]["default_model"].startswith("net_shuffle [")


def test_script_info_has_the_originals_rows(server: Any) -> None:
    rows = {(row["name"], row["is_img2img"]): row for row in server.get("/sdapi/v1/script-info").json()}
    unit = rows["controlnet", False]["args"][2]["value"]
    assert list(unit)[:8] == [
        "is_ui", "input_mode", "batch_images", "output_dir", "loopback", "enabled", "module", "model",
    ]  # fmt: skip
    assert [row["label"] for row in rows["controlnet m2m", True]["args"]][-1] == "Duration"
    assert len(rows["controlnet", True]["args"]) == 3


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({"model": "net"}, "controlnet is enabled but no input image is given"),
        ({"model": "no_such", "image": "@"}, "ControlNet model not found: no_such"),
        ({"model": "net", "image": "@", "module": "cany"}, r"module(cany) not found in supported modules."),
        ({"image": "@"}, "module none needs a model and none is named"),
        ({"model": "net_xl", "image": "@"}, "not compatible with"),
        ({"model": "nonsense", "image": "@"}, "cannot be recognised"),
        ({"model": "net", "image": "!"}, "Invalid encoded image"),
        ({"model": "net", "image": "@", "mask": "#"}, "the mask is 32x32, its image 64x64"),
        ({"model": "net", "image": "@", "module": "inpaint_only"}, "needs a mask"),
        ({"model": "net", "image": "@", "module": "openpose"}, "lacks its weights body_pose_model.pth"),
        ({"model": "lllite", "image": "@", "effective_region_mask": "@"}, "does nothing with a ControlLLLite"),
        ({"model": "ip", "module": "ip-adapter-auto", "ipadapter_input": "AAAA"}, "base64 of a safetensors file"),
        ({"module": "revision_clipvision", "image": "@"}, "SDXL checkpoints only"),
        ({"model": "ip", "module": "canny", "image": "@"}, "reads what CLIP sees, module canny makes a picture"),
        ({"model": "net", "module": "clip_vision", "image": "@"}, "reads a control map, module clip_vision makes none"),
        ({"module": "reference_only", "image": "@", "ipadapter_input": "AAAA"}, "does nothing with module reference"),
    ],
)
def test_a_unit_that_cannot_act_is_a_422(server: Any, circle: str, unit: dict[str, Any], words: str) -> None:
    from control_requests import png
    from PIL import Image

    small = png(Image.new("L", (32, 32), 255))
    stands_for = {"@": circle, "!": "notbase64", "#": small}
    sent = {key: stands_for.get(value, value) if isinstance(value, str) else value for key, value in unit.items()}
    reply = server.post("/sdapi/v1/txt2img", json={**BODY, "alwayson_scripts": {"ControlNet": {"args": [sent]}}})
    assert reply.status_code == 422, reply.text
    body = reply.json()
    assert body["error"] == "HTTPException"
    assert words in body["detail"]


def test_near_matches_and_hints(server: Any, circle: str) -> None:
    def hint(**unit: Any) -> str:
        args = [{"image": circle, "model": "net", **unit}]
        reply = server.post("/sdapi/v1/txt2img", json={**BODY, "alwayson_scripts": {"controlnet": {"args": args}}})
        return str(reply.json()["hint"])

    assert "'canny'" in hint(module="cany")
    assert "net_xl" in hint(model="net_x1")


def test_video_script_says_why_not(server: Any) -> None:
    reply = server.post("/sdapi/v1/txt2img", json={**BODY, "script_name": "controlnet m2m", "script_args": []})
    assert reply.status_code == 422
    assert "video" in reply.json()["detail"]


def test_first_routes_equal_the_always_on_script(server: Any, generate: Callable[..., Any], circle: str) -> None:
    unit = {"input_image": circle, "model": "net", "module": "none", "guessmode": False}
    seed = server.post("/controlnet/txt2img", json={**BODY, "controlnet_units": [unit]})
    assert seed.status_code == 200, seed.text
    body = seed.json()
    assert body["parameters"]["controlnet_units"] == [unit]
    assert body["parameters"]["alwayson_scripts"] == {}
    later = generate({**unit, "control_mode": "Balanced"})
    assert np.array_equal(pixels(body["images"][0]), pixels(later["images"][0]))
    flat = {"controlnet_input_image": [circle], "controlnet_model": "net", "controlnet_guessmode": False}
    also = server.post("/controlnet/txt2img", json={**BODY, **flat}).json()
    assert np.array_equal(pixels(also["images"][0]), pixels(body["images"][0]))
    strong = server.post("/controlnet/txt2img", json={**BODY, "controlnet_units": [{**unit, "guessmode": True}]}).json()
    assert not np.array_equal(pixels(strong["images"][0]), pixels(body["images"][0]))


def test_flat_fields_in_every_way_they_were_sent(server: Any, circle: str) -> None:
    """The very first API: a text or a list of one, other names of the picture, webuiapi's guess_mode."""

    def drawn(**fields: Any) -> Any:
        reply = server.post("/controlnet/txt2img", json={**BODY, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()

    named = {"controlnet_model": "net", "controlnet_module": "canny", "controlnet_weight": 0.9}
    unit = {"input_image": circle, "model": "net", "module": "canny", "weight": 0.9, "guidance": 0.6, "guidance_end": 1}
    wanted = pixels(drawn(controlnet_units=[unit | {"guessmode": False}])["images"][0])
    ways: list[dict[str, Any]] = [
        {"controlnet_input_image": [circle], "controlnet_guessmode": False, "controlnet_guidance": 0.6},
        {"controlnet_image": circle, "guess_mode": False, "controlnet_guidance": 0.6, "controlnet_mask": []},
        {"controlnet_input_image": circle, "controlnet_guess_mode": False, "controlnet_guidance_end": 0.6},
        {"controlnet_image": [f"data:image/png;base64,{circle}"], "controlnet_guessmode": False,
         "controlnet_guidance": 0.6, "controlnet_mask": [""], "controlnet_lowvram": True},
    ]  # fmt: skip
    for way in ways:
        assert np.array_equal(pixels(drawn(**named, **way)["images"][0]), wanted), way
    plain = drawn(controlnet_module="", controlnet_model="", controlnet_input_image=[], controlnet_mask=[])
    assert len(plain["images"]) == 1
    assert np.array_equal(pixels(plain["images"][0]), pixels(drawn()["images"][0]))


def test_what_the_first_routes_leave_out_is_told(server: Any, circle: str) -> None:
    import json

    fields = {"controlnet_input_image": [circle, circle], "controlnet_model": "net", "controlnet_wieght": 2}
    reply = server.post("/controlnet/txt2img", json={**BODY, **fields}).json()
    told = json.loads(reply["info"])["warnings"]
    assert "field 'controlnet_wieght' is not known and has no effect" in told
    assert any("only the first of 2 pictures" in text for text in told)


def test_first_routes_show_lines_black_on_white(server: Any, generate: Callable[..., Any], circle: str) -> None:
    unit = {"image": circle, "model": "net", "module": "canny"}
    first = server.post("/controlnet/txt2img", json={**BODY, "controlnet_units": [unit]}).json()
    later = generate(unit)
    assert np.array_equal(pixels(first["images"][1]), 255 - pixels(later["images"][1]))


def test_guess_mode_of_one_unit_was_that_of_all(server: Any, generate: Callable[..., Any], circle: str) -> None:
    def first(*modes: bool) -> np.ndarray:
        units = [{"image": circle, "model": "net", "weight": weight, "guessmode": mode}
                 for mode, weight in zip(modes, (0.5, 0.0001), strict=True)]  # fmt: skip
        reply = server.post("/controlnet/txt2img", json={**BODY, "controlnet_units": units})
        assert reply.status_code == 200, reply.text
        return pixels(reply.json()["images"][0])

    assert not np.array_equal(first(False, True), first(False, False))
    unit = {"image": circle, "model": "net", "weight": 0.5}
    by_option = generate(unit, override_settings={"control_net_cfg_based_guidance": True})
    assert np.abs(pixels(by_option["images"][0]).astype(int) - first(False, True)).max() <= 1


def test_models_of_packages_stand_behind_those_of_the_folders(control_data: Any, circle: str, tmp_path: Any) -> None:
    from types import SimpleNamespace

    import control_files as files
    import latentd_controlnet

    from latentd.api import ModelFile, hookimpl
    from latentd.testing import AppFactory

    carried = files.write(tmp_path / "pack/net_xs.safetensors", files.lllite())

    @hookimpl
    def register_checkpoints() -> list[ModelFile]:
        return [ModelFile(path=carried, name=carried.name, kind="controlnet")]

    pack = SimpleNamespace(register_checkpoints=register_checkpoints)
    for folder, listed in ((control_data, False), (tmp_path / "empty", True)):
        factory = AppFactory(folder)
        try:
            client = factory([latentd_controlnet, pack])
            titles = client.get("/controlnet/model_list").json()["model_list"]
            assert any(title.startswith("net_xs [") for title in titles) is listed
            if not listed:
                scripts = {"alwayson_scripts": {"controlnet": {"args": [{"model": "net_xs", "image": circle}]}}}
                reply = client.post("/sdapi/v1/txt2img", json={**BODY, "steps": 1, **scripts})
                assert "Model: net_xs" in reply.json()["info"], reply.text
        finally:
            factory.close()


def test_without_the_package_the_server_says_what_to_install(control_data: Any) -> None:
    from latentd.testing import AppFactory

    factory = AppFactory(control_data)
    try:
        client = factory([])
        scripts = {"alwayson_scripts": {"controlnet": {"args": [{"model": "net"}]}}}
        replies = [client.post("/sdapi/v1/txt2img", json={**BODY, **scripts}), client.get("/controlnet/model_list")]
        assert [reply.status_code for reply in replies] == [422, 404]
        assert all(install_hint("controlnet") in reply.text for reply in replies)
    finally:
        factory.close()


def test_first_img2img_route(server: Any, circle: str) -> None:
    unit = {"input_image": circle, "model": "net [e3b0c442]"}
    fields = {**BODY, "init_images": [circle], "controlnet_units": [unit]}
    reply = server.post("/controlnet/img2img", json=fields)
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["images"]) == 2
    assert reply.json()["parameters"]["init_images"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"controlnet_module": "cany"}, "Module not available"),
        ({"controlnet_module": "canny"}, "No image selected"),
        ({"controlnet_module": "clip_vision", "controlnet_input_images": ["@"]}, "Module not supported"),
        (
            {"controlnet_module": "inpaint_only", "controlnet_input_images": ["@"]},
            "Preprocessor inpaint_only requires `controlnet_masks` param.",
        ),
        ({"controlnet_module": "depth_midas", "controlnet_input_images": ["@"]}, "lacks its weights"),
    ],
)
def test_detect_refuses_in_the_originals_words(server: Any, circle: str, body: dict[str, Any], words: str) -> None:
    if "controlnet_input_images" in body:
        body = {**body, "controlnet_input_images": [circle]}
    reply = server.post("/controlnet/detect", json=body)
    assert reply.status_code == 422
    assert words in reply.json()["detail"]


@pytest.mark.parametrize("name", ["controlnet_input_images", "controlnet_images"])
@pytest.mark.parametrize("module", ["canny", "None", "invert (from white bg & black line)"])
def test_detect(server: Any, circle: str, name: str, module: str) -> None:
    body = {"controlnet_module": module, name: [circle, circle], "controlnet_processor_res": 64}
    reply = server.post("/controlnet/detect", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["info"] == "Success"
    assert [pixels(text).shape for text in reply.json()["images"]] == [(64, 64, 3)] * 2


def test_detect_gives_masks_as_transparency_and_tensors_as_safetensors(
    server: Any, circle: str, half_mask: str
) -> None:
    import base64

    from safetensors.torch import load

    body = {"controlnet_module": "inpaint", "controlnet_input_images": [circle], "controlnet_masks": [half_mask]}
    assert len(server.post("/controlnet/detect", json=body).json()["images"]) == 1
    body = {"controlnet_module": "ip-adapter_clip_sd15", "controlnet_input_images": [circle]}
    reply = server.post("/controlnet/detect", json=body).json()
    assert "images" not in reply
    assert load(base64.b64decode(reply["tensor"][0]))["cond"].shape == (1, 24)


def test_poses_are_drawn(server: Any) -> None:
    joints = [value for i in range(18) for value in (0.1 + i * 0.05, 0.5 + 0.3 * (-1) ** i, 1.0)]
    people = [{"pose_keypoints_2d": joints, "hand_left_keypoints_2d": joints + joints[:9], "face_keypoints_2d": None}]
    reply = server.post(
        "/controlnet/render_openpose_json", json=[{"people": people, "canvas_width": 96, "canvas_height": 64}]
    )
    assert reply.status_code == 200, reply.text
    drawn = pixels(reply.json()["images"][0])
    assert drawn.shape == (64, 96, 3)
    assert (drawn > 0).any()


def test_options_steer_maps(server: Any, generate: Callable[..., Any], circle: str, control_data: Any) -> None:
    unit = {"model": "net", "image": circle, "module": "canny"}
    assert len(generate(unit)["images"]) == 2
    assert len(generate({**unit, "save_detected_map": False})["images"]) == 1
    assert len(generate(unit, override_settings={"control_net_no_detectmap": True})["images"]) == 1
    generate(unit, override_settings={"control_net_detectmap_autosaving": True})
    assert len(list(control_data.rglob("detected_maps/canny/*.png"))) == 1


def test_a_third_party_adds_a_preprocessor(control_data: Any, circle: str, tmp_path: Any) -> None:
    from types import SimpleNamespace

    import latentd_controlnet

    from latentd.api import PreprocessorSpec, hookimpl
    from latentd.testing import AppFactory

    @hookimpl
    def register_preprocessors(services: Any) -> list[PreprocessorSpec]:
        return [PreprocessorSpec(name="flip", run=lambda image, params, context: image[:, ::-1, :3].copy())]

    factory = AppFactory(tmp_path)
    try:
        client = factory([latentd_controlnet, SimpleNamespace(register_preprocessors=register_preprocessors)])
        reply = client.post(
            "/controlnet/detect", json={"controlnet_module": "flip", "controlnet_input_images": [circle]}
        )
        assert np.array_equal(pixels(reply.json()["images"][0]), pixels(circle)[:, ::-1])
    finally:
        factory.close()


class Faulty:
    """A plugin whose preprocessors raise, and give what is no map."""

    @hookimpl
    def register_preprocessors(self, services: Any) -> list[PreprocessorSpec]:
        def fail(*arguments: Any) -> Any:
            raise KeyError("on purpose")

        return [
            PreprocessorSpec(name="faulty_raises", run=fail),
            PreprocessorSpec(name="faulty_text", run=lambda *arguments: "no map"),  # type: ignore[arg-type, return-value]
        ]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("faulty_raises", "KeyError: 'on purpose'"),
        ("faulty_text", "TypeError: returned a value of type str, not an array"),
    ],
)
def test_a_preprocessor_that_fails_is_told_with_its_plugin(
    latentd_app: Any, circle: str, module: str, words: str
) -> None:
    import latentd_controlnet

    client = latentd_app(plugins=[latentd_controlnet, Faulty()])
    body = {"controlnet_module": module, "controlnet_input_images": [circle]}
    reply = client.post("/controlnet/detect", json=body)
    assert reply.status_code == 500
    assert reply.json()["detail"] == f"plugin 'plugin1' failed in preprocessor {module!r}: {words}"
