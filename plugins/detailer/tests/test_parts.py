"""Prompts, masks, sizes and infotexts by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from latentd_detailer import infotext, prompts
from latentd_detailer.arguments import read_arguments, unread
from latentd_detailer.masks import chosen, grown, regions
from latentd_detailer.requests import repaint_size, repaint_strength
from latentd_detailer.unit import Unit
from PIL import Image

from latentd.api import Detection

SIZE = (100, 50)


def unit(**fields: Any) -> Unit:
    return Unit.model_validate({"ad_model": "x", "ad_dilate_erode": 0, **fields})


def found(*boxes: tuple[float, float, float, float]) -> list[Detection]:
    return [Detection(box=box, score=0.9 - 0.1 * number) for number, box in enumerate(boxes)]


def test_prompts_are_parted() -> None:
    assert prompts.parts("", "whole") == ["whole"]
    assert prompts.parts("a [SEP]\n b[SEP]", "whole") == ["a", "b", "whole"]
    assert prompts.parts("x, [PROMPT], y [SEP] [SKIP]", "whole") == ["x, whole, y", "[SKIP]"]
    assert [prompts.part(["a", "b"], number) for number in range(3)] == ["a", "b", "b"]
    assert [prompts.is_skipped(text) for text in ("[SKIP]", " [SKIP]\n", "a [SKIP]", "")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("order", "expected"),
    [("None", [0, 1, 2]), ("Position (left to right)", [1, 2, 0]), ("Position (center to edge)", [2, 0, 1]),
     ("Area (large to small)", [2, 0, 1])],
)  # fmt: skip
def test_they_are_ordered(order: str, expected: list[int]) -> None:
    boxes = [(70.0, 0.0, 90.0, 20.0), (0.0, 0.0, 10.0, 10.0), (30.0, 10.0, 60.0, 40.0)]
    kept = chosen(found(*boxes), unit(), SIZE, order)
    assert [boxes.index(one.box) for one in kept] == expected


def test_they_are_chosen_by_size_and_number() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 50.0, 50.0), (0.0, 0.0, 30.0, 30.0)]  # 0.02, 0.5, 0.18 of the whole

    def kept(**fields: Any) -> list[int]:
        return [boxes.index(one.box) for one in chosen(found(*boxes), unit(**fields), SIZE, "None")]

    assert kept(ad_mask_min_ratio=0.1) == [1, 2]
    assert kept(ad_mask_max_ratio=0.5) == [0, 1, 2]
    assert kept(ad_mask_max_ratio=0.49) == [0, 2]
    assert kept(ad_mask_k=2) == [1, 2]
    assert kept(ad_mask_k=2, ad_mask_filter_method="Confidence") == [0, 1]


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 7, -1, -2, -3, -4, -7, 300, -300])
def test_masks_grow_and_shrink_as_opencv_does_it(pixels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    values = (np.random.default_rng(1).random((23, 31)) > (0.95 if pixels > 0 else 0.05)).astype(np.uint8) * 255
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (abs(pixels), abs(pixels)))
    expected = (cv2.dilate if pixels > 0 else cv2.erode)(values, kernel)
    assert np.array_equal(np.asarray(grown(Image.fromarray(values), pixels)), expected)


def test_regions_move_join_and_invert() -> None:
    boxes = found((10, 10, 19, 19), (60, 10, 69, 19))
    plain = [np.asarray(one.mask) for one in regions(boxes, unit(), SIZE)]
    assert [mask.sum() // 255 for mask in plain] == [100, 100]
    (moved, _) = regions(boxes, unit(ad_x_offset=5, ad_y_offset=4), SIZE)
    assert np.array_equal(np.asarray(moved.mask), np.roll(plain[0], (-4, 5), (0, 1)))
    (joined,) = regions(boxes, unit(ad_mask_merge_invert="Merge"), SIZE)
    assert np.array_equal(np.asarray(joined.mask), plain[0] | plain[1])
    (inverted,) = regions(boxes, unit(ad_mask_merge_invert="Merge and Invert"), SIZE)
    assert np.array_equal(np.asarray(inverted.mask), 255 - (plain[0] | plain[1]))
    assert joined.box is inverted.box is None
    assert regions(boxes, unit(ad_dilate_erode=-20), SIZE) == []
    assert regions([], unit(ad_mask_merge_invert="Merge and Invert"), SIZE) == []


def test_a_detectors_own_mask_goes_before_its_box() -> None:
    shape = Image.new("L", (50, 25))
    shape.paste(255, (0, 0, 5, 5))
    (region,) = regions([Detection(box=(0, 0, 20, 20), score=1, mask=shape)], unit(), SIZE)
    assert region.mask.size == SIZE
    assert region.mask.getbbox() == (0, 0, pytest.approx(10, abs=2), pytest.approx(10, abs=2))


def test_the_size_of_a_repaint() -> None:
    wide, picture, asked = (0.0, 0.0, 40.0, 10.0), (1024, 1024), (512, 768)
    own = {"ad_use_inpaint_width_height": True, "ad_inpaint_width": 640, "ad_inpaint_height": 320}
    assert repaint_size(unit(), asked, picture, wide, "Off") == (512, 768)
    assert repaint_size(unit(**own), asked, picture, wide, "Off") == (640, 320)
    assert repaint_size(unit(ad_inpaint_only_masked=False), asked, picture, wide, "Free") == picture
    assert repaint_size(unit(), asked, picture, wide, "Free") == (768, 192)
    assert repaint_size(unit(), asked, picture, (0, 0, 10, 30), "Free") == (256, 768)
    assert repaint_size(unit(), (1024, 1024), picture, wide, "Strict (SDXL only)") == (1536, 640)
    assert repaint_size(unit(), (1024, 1024), picture, (0, 0, 5000, 9), "Strict (SDXL only)") == (1024, 1024)
    assert repaint_size(unit(), asked, picture, None, "Free") == asked


def test_the_strength_of_a_repaint() -> None:
    box = (0.0, 0.0, 50.0, 25.0)  # a quarter
    assert repaint_strength(unit(), box, SIZE, 0) == 0.4
    assert repaint_strength(unit(), box, SIZE, 2) == pytest.approx(0.4 * 0.75**2)
    assert repaint_strength(unit(), box, SIZE, -10) == 1.0
    assert repaint_strength(unit(), None, SIZE, 2) == 0.4


def test_an_infotext_tells_its_units() -> None:
    rich = {"ad_model": "a.pt", "ad_prompt": "x [SEP] y", "ad_mask_k": 2, "ad_use_cfg_scale": True, "ad_cfg_scale": 3.5,
            "ad_use_sampler": True, "ad_sampler": "Euler a", "ad_scheduler": "Karras", "ad_restore_face": True,
            "ad_use_checkpoint": True, "ad_checkpoint": "m", "ad_controlnet_model": "c", "ad_controlnet_weight": 0.5,
            "ad_inpaint_only_masked": False}  # fmt: skip
    args = read_arguments([True, False, rich, {"ad_model": "None"}, {"ad_model": "b.pt"}])
    assert args is not None
    entries = infotext.written(args)
    assert list(entries)[:2] == ["ADetailer model", "ADetailer prompt"]
    assert list(entries)[-1] == "ADetailer version"
    assert entries["ADetailer model 3rd"] == "b.pt"
    assert entries["ADetailer method to decide top k masks"] == "Area"
    assert "ADetailer inpaint padding" not in entries
    assert "ADetailer inpaint padding 3rd" in entries
    assert not any(key.endswith(" 2nd") for key in entries)
    again = read_arguments([True, False, *infotext.read({key: str(value) for key, value in entries.items()})])
    assert again == args


@pytest.mark.parametrize(
    "args", [5, "abc", True, None, [], {}, [None], [[]], {"units": 5}, {"units": [5]}, {"enabled": 1}]
)
def test_arguments_of_any_form_are_read_and_told(args: Any) -> None:
    assert read_arguments(args) is None
    assert "arguments without a unit" in unread(args)


def test_an_infotext_of_the_originals_older_version_is_read() -> None:
    (told,) = infotext.read({"ADetailer model": "a.pt", "ADetailer mask only top k largest": "3"})
    args = read_arguments([told])
    assert args is not None
    assert args.units[0].unit.ad_mask_k == 3
    assert infotext.read({"Steps": "20"}) == []


@pytest.mark.parametrize(("number", "suffix"), [(0, ""), (1, " 2nd"), (2, " 3rd"), (3, " 4th"), (10, " 11th")])
def test_units_are_counted_in_words(number: int, suffix: str) -> None:
    args = read_arguments([*[{"ad_model": "None"}] * number, {"ad_model": "x"}])
    assert args is not None
    assert "ADetailer model" + suffix in infotext.written(args)
