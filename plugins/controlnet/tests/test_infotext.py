"""What the infotext says of units comes back as units."""

from __future__ import annotations

from typing import Any

import pytest
from latentd_controlnet.infotext import KEYS, write_unit
from latentd_controlnet.script import ControlNetScript
from latentd_controlnet.unit import read_unit
from latentd_controlnet.unit_schema import default_unit

SCRIPT = ControlNetScript()
VALUES: dict[str, Any] = {
    "Module": "canny",
    "Model": "control_tiny_canny [0123abcd]",
    "Weight": 0.7,
    "Resize Mode": "Resize and Fill",
    "Processor Res": 128,
    "Threshold A": 50,
    "Threshold B": 180.5,
    "Guidance Start": 0.1,
    "Guidance End": 0.9,
    "Pixel Perfect": True,
    "Control Mode": "My prompt is more important",
}
ENTRIES = {"ControlNet 0": write_unit(VALUES), "ControlNet 2": write_unit(VALUES | {"Module": "none"}), "Steps": "7"}


def test_every_value_of_a_unit_comes_back() -> None:
    assert set(KEYS) == set(VALUES)
    assert set(KEYS.values()) <= set(default_unit())
    (unit,) = SCRIPT.from_infotext({"ControlNet 0": ENTRIES["ControlNet 0"]}, None, "img2img") or []
    read = read_unit(unit, 0)
    assert (read.module, read.model, read.weight) == ("canny", "control_tiny_canny [0123abcd]", 0.7)
    assert (read.resize_mode.label, read.control_mode.label) == ("Resize and Fill", "My prompt is more important")
    assert (read.processor_res, read.threshold_a, read.threshold_b) == (128, 50, 180.5)
    assert (read.guidance_start, read.guidance_end, read.pixel_perfect) == (0.1, 0.9, True)


def test_units_of_pictures_alone_are_completed_by_their_number() -> None:
    given = [{"image": "a"}, {"image": "b"}, {"image": "c", "module": "depth"}, {"image": "d", "weight": 0.2}]
    units = SCRIPT.from_infotext(ENTRIES | {"ControlNet 3": ENTRIES["ControlNet 0"]}, given, "txt2img")
    assert isinstance(units, list)
    assert [unit.get("module") for unit in units] == ["canny", None, "depth", "canny"]
    assert [unit["image"] for unit in units] == ["a", "b", "c", "d"]
    assert units[3]["weight"] == 0.2


def test_what_needs_a_picture_is_told() -> None:
    said = SCRIPT.from_infotext(ENTRIES, None, "txt2img")
    assert isinstance(said, str)
    assert "pictures" in said
    assert SCRIPT.from_infotext({"Steps": "7"}, None, "txt2img") is None


@pytest.mark.parametrize("text", ["", "Module", ":", "Module: , : x", "a: b, c"])
def test_any_text_is_read(text: str) -> None:
    assert SCRIPT.from_infotext({"ControlNet 0": text}, [{"image": "a"}], "txt2img")


def test_a_value_that_could_not_be_read_back_is_not_written() -> None:
    assert write_unit(VALUES | {"Model": "a, b"}) is None
