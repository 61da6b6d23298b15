"""Every kind of control acts, tells of itself, and leaves nothing behind; equal files in other formats act equally."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from control_requests import pixels
from latentd_controlnet.job import ControlJob
from latentd_controlnet.prepared import ControlNetArgs
from latentd_controlnet.script import ControlNetScript

KINDS = ("net", "net_shuffle", "control_lora", "t2i", "t2i_light", "lllite", "style", "ip", "ip_plus")
ONE = {"sd_model_checkpoint": "one"}
MODULES = {"style": "clip_vision", "ip": "ip-adapter-auto", "ip_plus": "ip-adapter-auto"}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def plain(generate: Callable[..., Any]) -> np.ndarray:
    return pixels(generate()["images"][0])


@pytest.mark.parametrize("model", KINDS)
def test_acts_and_leaves_no_trace(generate: Callable[..., Any], circle: str, plain: np.ndarray, model: str) -> None:
    body = generate({"model": model, "module": MODULES.get(model, "none"), "image": circle})
    first, shown = (pixels(text) for text in body["images"])
    assert not np.array_equal(first, plain)
    assert shown.shape == (64, 64, 3)
    assert f"Model: {model}, Weight: 1.0" in json.loads(body["info"])["extra_generation_params"]["ControlNet 0"]
    assert np.array_equal(pixels(generate()["images"][0]), plain)


@pytest.mark.parametrize("module", ["reference_only", "reference_adain", "reference_adain+attn"])
def test_reference_acts_without_a_model(
    generate: Callable[..., Any], circle: str, plain: np.ndarray, module: str
) -> None:
    unit = {"module": module, "image": circle}
    first = pixels(generate(unit)["images"][0])
    assert not np.array_equal(first, plain)
    assert np.array_equal(pixels(generate(unit)["images"][0]), first)
    careful = pixels(generate({**unit, "control_mode": 2})["images"][0])
    assert not np.array_equal(careful, first)
    assert np.array_equal(pixels(generate()["images"][0]), plain)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("net", "net_diffusers"),
        ("net", "net_difference"),
        ("control_lora", "control_full"),
        ("t2i", "t2i_diffusers"),
    ],
)
def test_formats_agree(generate: Callable[..., Any], circle: str, one: str, other: str) -> None:
    found = [pixels(generate({"model": name, "image": circle})["images"][0]) for name in (one, other)]
    assert psnr(*found) > 45


def test_two_units_are_one_of_the_summed_weight(generate: Callable[..., Any], circle: str) -> None:
    unit = {"model": "net", "image": circle}
    two = generate({**unit, "weight": 0.3}, {**unit, "weight": 0.45})
    one = generate({**unit, "weight": 0.75})
    assert psnr(pixels(two["images"][0]), pixels(one["images"][0])) > 50
    assert len(two["images"]) == 3


def test_sdxl(generate: Callable[..., Any], circle: str) -> None:
    override = {"override_settings": {"sd_model_checkpoint": "two"}}
    plain = pixels(generate(**override)["images"][0])
    assert not np.array_equal(pixels(generate({"model": "net_xl", "image": circle}, **override)["images"][0]), plain)


def test_a_union_model_hears_what_its_map_is(generate: Callable[..., Any], circle: str) -> None:
    override = {"override_settings": {"sd_model_checkpoint": "two"}}
    unit = {"model": "net_union", "image": circle}
    found = [
        pixels(generate({**unit, "union_control_type": kind}, **override)["images"][0])
        for kind in ("Unknown", "OpenPose", "Hard Edge")
    ]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


@pytest.mark.parametrize("mode", ["My prompt is more important", "ControlNet is more important", 1, 2])
def test_modes_differ_from_balanced(generate: Callable[..., Any], circle: str, mode: str | int) -> None:
    balanced, other = (
        pixels(generate({"model": "net", "image": circle, "control_mode": m})["images"][0]) for m in (0, mode)
    )
    assert not np.array_equal(balanced, other)


def test_outside_its_window_a_unit_does_nothing(generate: Callable[..., Any], circle: str, plain: np.ndarray) -> None:
    never = {"model": "net", "image": circle, "guidance_start": 1.0}
    assert np.array_equal(pixels(generate(never)["images"][0]), plain)


def test_a_region_of_nothing_does_nothing(
    generate: Callable[..., Any], circle: str, half_mask: str, plain: np.ndarray
) -> None:
    from control_requests import png
    from PIL import Image

    black = png(Image.new("L", (64, 64)))
    unit = {"model": "net", "image": circle}
    assert np.array_equal(pixels(generate({**unit, "effective_region_mask": black})["images"][0]), plain)
    half = pixels(generate({**unit, "effective_region_mask": half_mask})["images"][0])
    assert not np.array_equal(half, plain)
    assert not np.array_equal(half, pixels(generate(unit)["images"][0]))


@pytest.mark.parametrize("module", ["tile_colorfix", "tile_colorfix+sharp", "recolor_luminance", "recolor_intensity"])
def test_modules_that_change_the_result(generate: Callable[..., Any], circle: str, module: str) -> None:
    with_map = pixels(generate({"model": "net", "image": circle, "weight": 0, "module": "none"})["images"][0])
    weight = 1 if module.startswith("tile") else 0
    changed = pixels(generate({"model": "net", "image": circle, "weight": weight, "module": module})["images"][0])
    assert not np.array_equal(with_map, changed)


@pytest.mark.parametrize("checkpoint", ["one", "three"])
def test_inpaint_only_keeps_what_the_mask_leaves_out(
    generate: Callable[..., Any], circle: str, half_mask: str, checkpoint: str
) -> None:
    unit = {"model": "net", "module": "inpaint_only", "image": circle, "mask": half_mask}
    override = {"override_settings": {"sd_model_checkpoint": checkpoint, "control_net_inpaint_blur_sigma": 1}}
    body = generate(unit, **override)
    result, source = pixels(body["images"][0]), pixels(circle)
    assert np.abs(result[:, 40:].astype(int) - source[:, 40:]).max() <= 1
    assert np.abs(result[:, :24].astype(int) - source[:, :24]).max() > 1


def test_hires_has_a_map_per_pass_and_options_choose(generate: Callable[..., Any], circle: str) -> None:
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    unit = {"model": "net", "image": circle, "module": "canny", "processor_res": 64}
    body = generate(unit, **hires)
    assert [pixels(text).shape[0] for text in body["images"]] == [128, 128, 64]
    both = pixels(body["images"][0])
    low, high = (
        pixels(generate({**unit, "hr_option": option}, **hires)["images"][0])
        for option in ("Low res only", "High res only")
    )
    assert not np.array_equal(low, both)
    assert not np.array_equal(high, both)
    assert not np.array_equal(high, low)


def test_hires_option_means_nothing_without_hires(generate: Callable[..., Any], circle: str) -> None:
    unit = {"model": "net", "image": circle}
    found = [
        pixels(generate({**unit, "hr_option": option})["images"][0])
        for option in ("Both", "Low res only", "High res only")
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_several_pictures_share_the_weight(generate: Callable[..., Any], circle: str, half_mask: str) -> None:
    unit = {"model": "net", "weight": 0.8}
    several = generate({**unit, "image": [{"image": circle}, {"image": half_mask}, {"image": circle}]})
    singly = generate(*({"model": "net", "weight": 0.8 / 3, "image": image} for image in (circle, half_mask, circle)))
    assert len(several["images"]) == len(singly["images"]) == 4
    assert np.array_equal(pixels(several["images"][0]), pixels(singly["images"][0]))


def test_img2img_takes_its_own_picture(generate: Callable[..., Any], circle: str, half_mask: str) -> None:
    fields = {"path": "/sdapi/v1/img2img", "init_images": [circle], "denoising_strength": 0.8}
    plain = generate(**fields)
    body = generate({"model": "net", "module": "canny"}, **fields)
    assert not np.array_equal(pixels(body["images"][0]), pixels(plain["images"][0]))
    masked = generate({"model": "net", "module": "canny"}, mask=half_mask, inpaint_full_res=True, **fields)
    assert pixels(masked["images"][1]).shape == (64, 64, 3)


def test_a_job_frees_what_it_held(server: Any, generate: Callable[..., Any], circle: str) -> None:
    generate({"model": "net", "image": circle})
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, ControlJob)]
    cache = server.app.state.services.models.cache
    held = [weakref.ref(net) for net in cache.loaded("controlnet")]
    assert held
    cache.drop("controlnet")
    gc.collect()
    assert not [ref for ref in held if ref() is not None]


def test_given_embeddings_stand_in_for_a_picture(generate: Callable[..., Any], plain: np.ndarray) -> None:
    import base64

    import control_files as files
    from safetensors.torch import save

    given = base64.b64encode(save({"cond": files.random(1, 24)})).decode()
    body = generate({"model": "ip", "module": "ip-adapter-auto", "ipadapter_input": given, "image": None})
    assert not np.array_equal(pixels(body["images"][0]), plain)


@pytest.mark.parametrize("flags", [[], ["--no-half-controlnet"]])
def test_half_precision(control_data: Any, circle: str, flags: list[str]) -> None:
    import latentd_controlnet
    from control_requests import BODY

    from latentd.testing import AppFactory

    factory = AppFactory(control_data)
    try:
        client = factory([latentd_controlnet], ["--dtype", "bf16", *flags])
        names = [{"model": model, "module": MODULES.get(model, "none")} for model in KINDS]
        for unit in (*names, {"module": "reference_adain+attn"}, {"model": "net", "module": "tile_colorfix"}):
            args = [{**unit, "image": circle}]
            scripts = {"alwayson_scripts": {"controlnet": {"args": args}}, "override_settings": ONE}
            # A CPU without arithmetic of its own for halves takes a hundred times as long for a convolution.
            small = {"steps": 1, "width": 32, "height": 32}
            reply = client.post("/sdapi/v1/txt2img", json={**BODY, **small, **scripts})
            assert reply.status_code == 200, (unit, reply.text)
    finally:
        factory.close()


def test_a_worker_finds_control_models_in_its_own_folders(
    generate: Callable[..., Any], circle: str, control_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine the server's path may lead nowhere."""
    told: list[Path] = []
    begin = ControlNetScript.before_process

    def elsewhere(self: ControlNetScript, generation: Any, args: ControlNetArgs) -> None:
        told.extend(self.model_files(generation.services, generation.plan, args))
        moved = [replace(p, file=p.file and replace(p.file, path=Path("/nowhere/x.pth"))) for p in args.prepared]
        begin(self, generation, replace(args, prepared=tuple(moved)))

    units = [{"model": "net", "module": "none", "image": circle}, {"module": "reference_only", "image": circle}]
    expected = generate(*units)["images"]
    monkeypatch.setattr(ControlNetScript, "before_process", elsewhere)
    assert generate(*units)["images"] == expected
    (file,) = told
    assert file.parent == control_data / "models/ControlNet"
    assert file.stem == "net"


@pytest.mark.parametrize("side", [32, 72])
def test_adapters_take_sizes_that_halve_to_odd_ones(generate: Callable[..., Any], circle: str, side: int) -> None:
    size = {"width": side, "height": side, "steps": 1}
    plain = pixels(generate(**size)["images"][0])
    for model in ("t2i", "t2i_light"):
        led = pixels(generate({"model": model, "image": circle}, **size)["images"][0])
        assert not np.array_equal(led, plain)
