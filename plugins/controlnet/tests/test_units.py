"""Units in every historic spelling, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from latentd_controlnet.enums import ControlMode, HiresOption, ResizeMode
from latentd_controlnet.parameters import resolve
from latentd_controlnet.preprocessors.table import specs
from latentd_controlnet.unit import read_unit, read_units, unknown_keys
from latentd_controlnet.unit_schema import default_unit

from latentd.api import InvalidRequest


@pytest.mark.parametrize(
    ("sent", "field", "value"),
    [
        ({"input_image": "x"}, "image", "x"),
        ({"image": "x", "input_image": "y"}, "image", "x"),
        ({"mask_image": "m"}, "mask", "m"),
        ({"guidance": 0.4}, "guidance_end", 0.4),
        ({"resize_mode": 0}, "resize_mode", ResizeMode.STRETCH),
        ({"resize_mode": "2"}, "resize_mode", ResizeMode.FILL),
        ({"resize_mode": "Scale to Fit (Inner Fit)"}, "resize_mode", ResizeMode.CROP),
        ({"resize_mode": "Inner Fit (Scale to Fit)"}, "resize_mode", ResizeMode.CROP),
        ({"resize_mode": "Envelope (Outer Fit)"}, "resize_mode", ResizeMode.FILL),
        ({"resize_mode": "Outer Fit (Shrink to Fit)"}, "resize_mode", ResizeMode.FILL),
        ({"resize_mode": 3}, "resize_mode", ResizeMode.STRETCH),
        ({"control_mode": 2}, "control_mode", ControlMode.CONTROL),
        ({"control_mode": "My prompt is more important"}, "control_mode", ControlMode.PROMPT),
        ({"guessmode": True}, "control_mode", ControlMode.CONTROL),
        ({"guess_mode": True, "control_mode": 0}, "control_mode", ControlMode.BALANCED),
        ({}, "control_mode", ControlMode.BALANCED),
        ({}, "enabled", True),
        ({"hr_option": "High res only"}, "hires", HiresOption.HIGH),
        ({"scribble_mode": True}, "invert_image", True),
        ({"processor_res": 64, "threshold_a": 64, "threshold_b": 64}, "processor_res", -1),
        ({"processor_res": 64, "threshold_a": 100}, "processor_res", 64),
        ({"no_such_key": 1, "weight": "0.5"}, "weight", 0.5),
    ],
)
def test_spellings(sent: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(read_unit(sent, 0), field) == value


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"weight": "much"}, "weight is 'much'; it must be a number"),
        ({"weight": float("nan")}, "weight"),
        ({"guidance_start": 1.5}, "between 0 and 1"),
        ({"guidance_start": 0.9, "guidance_end": 0.1}, r"guidance_start\(0.9\) > guidance_end\(0.1\)"),
        ({"control_mode": 7}, "'Balanced'"),
        ({"resize_mode": "sideways"}, "'Just Resize'"),
        ({"hr_option": "never"}, "'Low res only'"),
        ({"advanced_weighting": "1,2"}, "a list of numbers"),
        ({"union_control_type": "Smell"}, "'OpenPose'"),
        ({"module": 3}, "a text"),
        ({"guessmode": "Both"}, "guessmode is 'Both'; it must be true or false"),
        ("text", "a unit is an object, not str"),
    ],
)
def test_refusals_name_unit_and_field(sent: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        read_unit(sent, 4)
    assert caught.value.detail.startswith("controlnet unit 4: ")


def test_first_routes_read_their_defaults() -> None:
    unit = read_unit({"input_image": "x", "processor_res": 64, "threshold_a": 10, "threshold_b": 20}, 0, style="seed")
    assert (unit.control_mode, unit.processor_res, unit.threshold_a) == (ControlMode.CONTROL, -1, -1)
    unit = read_unit({"processor_res": 384, "threshold_a": 10, "guessmode": False}, 0, style="seed")
    assert (unit.control_mode, unit.processor_res, unit.threshold_a) == (ControlMode.BALANCED, 384, 10)


def test_flat_values_begin_with_a_boolean() -> None:
    flat = [True, "canny", "net", 0.5, "pic", False, 1, False, False, 128, 10, 20, 0.1, 0.9, True]
    units = read_units([*flat, False, "depth"])
    assert [unit.module for unit in units] == ["canny"]
    first = units[0]
    assert (first.weight, first.guidance_end, first.processor_res, first.control_mode) == (0.5, 0.9, 128, 2)


def test_more_units_than_the_original_took() -> None:
    assert len(read_units([{"module": "canny"}] * 7)) == 7
    assert read_units([{"enabled": False}, None]) == []


EMPTY: list[dict[str, Any]] = [
    {},
    {"module": "none"},
    {"module": "None", "model": "none", "weight": 0.5},
    {"enabled": True, "image": None},
    {"image": {"image": "", "mask": ""}},
    {"input_image": "", "mask": "", "module": "none", "model": "None", "guessmode": True, "processor_res": 64},
    {"image": [""]},
]


@pytest.mark.parametrize("style", ["alwayson", "seed"])
@pytest.mark.parametrize("entry", EMPTY)
def test_a_unit_that_asks_for_nothing_is_none(entry: dict[str, Any], style: Any) -> None:
    assert read_units([entry], style=style) == []


@pytest.mark.parametrize(
    "entry",
    [{"image": "x"}, {"module": "canny"}, {"model": "net"}, {"mask": "x"}, {"image": [{"image": "x"}]}],
)
def test_a_unit_that_asks_for_something_is_one(entry: dict[str, Any]) -> None:
    assert len(read_units([entry])) == 1


def test_keys_that_nobody_knows_are_told() -> None:
    page = default_unit() | {"low_vram": True, "guess_mode": True, "controlnet_weight": 1, "some_day": None}
    assert unknown_keys([page]) == []
    units = [{"wieght": 2}, {"enabled": False, "wieght": 2}, {"use_preview_as_input": True, "image": "x"}]
    assert unknown_keys(units) == ["'wieght' of unit 0", "'use_preview_as_input' of unit 2"]


def test_guidance_below_one_ended_the_window_of_the_first_routes() -> None:
    sent = {"guidance": 0.4, "guidance_end": 1}
    assert (read_unit(sent, 0, style="seed").guidance_end, read_unit(sent, 0).guidance_end) == (0.4, 1)
    assert read_unit({"guidance": 1, "guidance_end": 0.7}, 0, style="seed").guidance_end == 0.7


@pytest.mark.parametrize(
    ("module", "sent", "resolved"),
    [
        ("canny", (-1, -1, -1), (512, 100, 200)),
        ("canny", (64, 300, 64), (64, 100, 64)),
        ("invert", (512, 64, 64), (0.5, 0.5, 0.5)),
        ("shuffle", (128, -1, -1), (512, 0.5, 0.5)),
        ("softedge_anyline", (-1, -1, -1), (1280, 2, 0.5)),
        ("none", (100, 0.2, 3), (100, 0.2, 0.5)),
    ],
)
def test_values_outside_sliders_mean_their_defaults(module: str, sent: Any, resolved: Any) -> None:
    spec = next(spec for spec in specs() if spec.name == module)
    found = resolve(spec, *sent)
    assert (found.resolution, found.threshold_a, found.threshold_b) == resolved
