"""Requests as clients send them, and what comes of them: two faces of a photograph are repainted, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detailer_requests import HEIGHT, WIDTH, png
from latentd_detailer.infotext import KEYS, VERSION
from PIL import Image

from latentd.api import WorkerContext

BLUR, GROWN = 4, 4


@pytest.fixture(scope="session")
def original(photo: Image.Image) -> np.ndarray:
    return np.asarray(photo).astype(int)


@pytest.fixture(scope="session")
def faces(photo: Image.Image) -> list[tuple[int, int, int, int]]:
    """The boxes of both faces, from left to right, in whole pixels around them."""
    from latentd_facerestore import register_detectors

    (detector,) = register_detectors(None)  # type: ignore[arg-type]
    found = sorted(one.box for one in detector.detect(photo, 0.3, WorkerContext(options={})))
    assert len(found) == 2
    assert found[0][2] < WIDTH / 2 < found[1][0]
    return [(int(left), int(top), int(right) + 1, int(bottom) + 1) for left, top, right, bottom in found]


def within(box: tuple[int, int, int, int], margin: int) -> np.ndarray:
    left, top, right, bottom = box
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin] = True
    return inside


def changed(picture: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Where a picture differs, as booleans [h,w]."""
    return (picture != original).any(axis=2)


def test_faces_are_repainted_and_nothing_else(detailed, original, faces):
    picture = detailed().images[0]
    assert picture.shape == original.shape, "the picture keeps its size"
    moved = changed(picture, original)
    # A blur of 4 reaches as far as Pillow's filter does, below three of its radii.
    assert not moved[~(within(faces[0], GROWN + 3 * BLUR) | within(faces[1], GROWN + 3 * BLUR))].any()
    for face in faces:
        assert moved[within(face, 0)].mean() > 0.9


@pytest.mark.parametrize("unit", [{"ad_mask_blur": 0, "ad_dilate_erode": 0}, {"ad_inpaint_only_masked": False,
                                  "ad_use_inpaint_width_height": True, "ad_inpaint_width": WIDTH, "ad_inpaint_height":
                                  HEIGHT, "ad_mask_blur": 0, "ad_dilate_erode": 0}])  # fmt: skip
def test_without_blur_the_masks_edge_is_sharp(detailed, original, faces, unit):
    moved = changed(detailed(unit).images[0], original)
    assert not moved[~(within(faces[0], 1) | within(faces[1], 1))].any()
    assert moved[within(faces[0], -2)].mean() > 0.9


@pytest.mark.parametrize(
    ("order", "first"),
    [("Position (left to right)", 0), ("Position (center to edge)", 1), ("Area (large to small)", None)],
)
def test_faces_are_repainted_in_the_order_asked_for(detailed, original, faces, order, first):
    """The first prompt leaves its face as it is: that shows which came first."""
    unit = {"ad_prompt": "[SKIP][SEP]a green square"}
    moved = changed(detailed(unit, override_settings={"ad_bbox_sortby": order}).images[0], original)
    kept = [not moved[within(face, 0)].any() for face in faces]
    assert sum(kept) == 1
    if first is None:
        areas = [(right - left) * (bottom - top) for left, top, right, bottom in faces]
        assert kept[int(np.argmax(areas))]
    elif first == 0:
        assert kept == [True, False]
    else:
        centres = [abs((left + right) / 2 - WIDTH / 2) for left, _, right, _ in faces]
        assert kept[int(np.argmin(centres))]


def test_each_face_has_its_own_prompt_and_seed(detailed, original, faces):
    order = {"override_settings": {"ad_bbox_sortby": "Position (left to right)"}}
    left, right = (within(face, 0) for face in faces)
    both = detailed({"ad_prompt": "a red ring[SEP]a green square"}, **order).images[0]
    second = detailed({"ad_prompt": "[SKIP][SEP]a green square"}, **order).images[0]
    assert np.array_equal(both[right], second[right]), "the second face is drawn with its own prompt and seed"
    assert np.array_equal(second[left], original[left])
    blank = detailed({}, **order).images[0]
    assert np.array_equal(blank, detailed({"ad_prompt": "[PROMPT]"}, **order).images[0])
    assert np.array_equal(blank[left], both[left]), "an empty prompt is the picture's"
    assert not np.array_equal(blank[right], both[right])
    again = detailed({"ad_prompt": "[SKIP][SEP]"}, seed=8, **order).images[0]
    other = {"override_settings": {**order["override_settings"], "ad_same_seed_for_each_tab": True}}
    assert np.array_equal(again[right], detailed({"ad_prompt": "[SKIP][SEP]"}, seed=9, **other).images[0][right]), (
        "the seed of the second face is the picture's and one more"
    )


STEPS = {"ad_steps": 5}


@pytest.fixture(scope="module")
def of_five_steps(detailed: Any) -> np.ndarray:
    """The photograph repainted in five steps, under no other key."""
    return detailed(STEPS).images[0]


@pytest.mark.parametrize(
    "unit",
    [
        {"ad_denoising_strength": 0.8},
        {"ad_negative_prompt": "a blue circle"},
        {"ad_inpaint_only_masked_padding": 0},
        {"ad_use_inpaint_width_height": True, "ad_inpaint_width": 64, "ad_inpaint_height": 96},
        {"ad_steps": 3},
        {"ad_use_cfg_scale": True, "ad_cfg_scale": 1.5},
        {"ad_use_checkpoint": True, "ad_checkpoint": "two.safetensors"},
        {"ad_use_sampler": True, "ad_sampler": "Euler a"},
        {"ad_use_sampler": True, "ad_sampler": "Use same sampler", "ad_scheduler": "Karras"},
        {"ad_use_noise_multiplier": True, "ad_noise_multiplier": 1.2},
        {"ad_use_clip_skip": True, "ad_clip_skip": 2},
        {"ad_mask_blur": 0},
        {"ad_dilate_erode": -8},
        {"ad_x_offset": 9},
        {"ad_y_offset": 9},
        {"ad_mask_merge_invert": "Merge"},
        {"ad_mask_merge_invert": "Merge and Invert"},
        {"ad_mask_k": 1},
        {"ad_mask_k_largest": 1.0},
        {"ad_mask_k": 1, "ad_mask_filter_method": "Confidence"},
        {"ad_mask_max_ratio": 0.001},
        {"ad_mask_min_ratio": 0.5},
        {"ad_confidence": 1.0},
        {"ad_model_classes": "hand"},
    ],
    ids=lambda unit: " ".join(unit),
)  # fmt: skip
def test_every_key_acts(detailed, of_five_steps, unit):
    assert not np.array_equal(detailed({**STEPS, **unit}).images[0], of_five_steps)


def test_a_repainted_face_can_be_restored(detailed, original, faces):
    found = detailed(
        {"ad_restore_face": True, "ad_mask_blur": 0}, override_settings={"face_restoration_model": "White"}
    ).images[0]
    for face in faces:
        assert (found[within(face, -2)] == 255).all()
    assert not changed(found, original)[~(within(faces[0], 16) | within(faces[1], 16))].any()


def test_offsets_move_to_the_right_and_up(detailed, original, faces):
    unit = {"ad_mask_blur": 0, "ad_dilate_erode": 0, "ad_mask_k": 1, "ad_x_offset": 20, "ad_y_offset": 15}
    moved = changed(detailed(unit).images[0], original)
    rows, columns = np.nonzero(moved)
    (face,) = [face for face in faces if abs(face[0] + 20 - columns.min()) <= 2]
    assert abs(face[1] - 15 - rows.min()) <= 2


def test_a_merged_mask_is_one_region_and_inverted_it_spares_the_faces(detailed, original, faces):
    inverted = detailed({"ad_mask_merge_invert": "Merge and Invert", "ad_mask_blur": 0}).images[0]
    moved = changed(inverted, original)
    assert not any(moved[within(face, 0)].any() for face in faces)
    assert moved[~(within(faces[0], 8) | within(faces[1], 8))].mean() > 0.9


def test_an_infotext_brings_the_same_picture(detailed, draw, photo):
    units = ({"ad_denoising_strength": 0.6, "ad_prompt": "a ring, of gold: bright[SEP][SKIP]", "ad_mask_k": 2},
             {"ad_mask_merge_invert": "Merge", "ad_use_cfg_scale": True, "ad_cfg_scale": 3.0})  # fmt: skip
    first = detailed(*units)
    assert f"ADetailer version: {VERSION}" in first.infotext
    assert 'ADetailer prompt: "a ring, of gold: bright[SEP][SKIP]"' in first.infotext
    assert "ADetailer CFG scale 2nd: 3.0" in first.infotext
    assert "Steps: 2, Sampler: Euler" in first.infotext, "not the steps of the skipped img2img"
    assert "Size: 128x128" in first.infotext
    # Whether img2img was skipped stands in no infotext; at strength 0 it changes little, so the pictures are compared
    # after both have gone through it.
    twice = [
        draw([True, False, *({"ad_model": "face_mtcnn", "ad_use_steps": True, "ad_steps": 2, **u} for u in units)],
             images=[photo], width=WIDTH, height=HEIGHT),
        draw(images=[photo], width=WIDTH, height=HEIGHT, infotext=first.infotext, denoising_strength=0.75),
    ]  # fmt: skip
    assert np.array_equal(twice[0].images[0], twice[1].images[0])
    assert twice[0].infotext.partition("ADetailer")[2] == twice[1].infotext.partition("ADetailer")[2]


def test_the_infotext_tells_the_units(detailed):
    text = detailed({"ad_x_offset": 3}).infotext
    assert "ADetailer model: face_mtcnn" in text
    assert "ADetailer x offset: 3" in text
    assert "ADetailer inpaint padding: 32" in text
    for absent in ("y offset", "ControlNet", "restore face", "top k", "mask min ratio", "use separate CFG"):
        assert absent not in text
    assert set(KEYS) <= set(__import__("latentd_detailer.unit", fromlist=["Unit"]).Unit.model_fields)


class Everywhere:
    """A detector that finds the middle of every picture, and counts."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, image: Image.Image, confidence: float, context: Any) -> Any:
        from latentd.api import Detection

        self.seen.append(image.size)
        width, height = image.size
        return [Detection(box=(width / 4, height / 4, width * 3 / 4, height * 3 / 4), score=0.9, label="middle")]


@pytest.fixture
def middle(server, monkeypatch):
    """The built-in detector's name leads to one that finds the middle of every picture."""
    import latentd_detailer.script as script

    from latentd.api import DetectorSpec

    found = Everywhere()
    monkeypatch.setattr(script, "find", lambda name, services, options: (DetectorSpec(name=name, detect=found), None))
    return found


# --- forms of arguments ----------------------------------------------------------------------------------------------

UNIT = {"ad_model": "face_mtcnn"}
SILLY_TAVERN = [True, True, {"ad_model": "face_mtcnn"}]
KRITA = [True, False, {**UNIT, "ad_tab_enable": True, "ad_model_classes": "", "ad_prompt": "", "ad_negative_prompt": "",
         "ad_confidence": 0.3, "ad_mask_k_largest": 0, "ad_mask_min_ratio": 0.0, "ad_mask_max_ratio": 1.0,
         "ad_x_offset": 0, "ad_y_offset": 0, "ad_dilate_erode": 4, "ad_mask_merge_invert": "None", "ad_mask_blur": 4,
         "ad_denoising_strength": 0.4, "ad_inpaint_only_masked": True, "ad_inpaint_only_masked_padding": 32,
         "ad_use_steps": False, "ad_steps": 28, "ad_checkpoint": None, "ad_vae": None, "is_api": []},
         {"ad_model": "None"}]  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [SILLY_TAVERN, [True, UNIT], [UNIT], KRITA, UNIT, {"enabled": True, "units": [UNIT]}, [True, False, UNIT, None]],
    ids=["two switches", "one switch", "none", "every key", "a unit", "an object", "null behind"],
)
def test_arguments_are_read_in_every_form(draw, middle, args):
    found = draw(args)
    assert "ADetailer model: face_mtcnn" in found.infotext
    assert "no effect" not in found.warnings
    assert middle.seen == [(64, 64)]


def test_that_nothing_was_found_is_told(draw):
    words = "face_mtcnn has found nothing to repaint in picture 1"
    assert words in draw([True, {**UNIT, "ad_confidence": 1.0}]).warnings


@pytest.mark.parametrize(
    "args",
    [[False], [False, False, UNIT], [True, False, {"ad_model": "None"}], [True, {**UNIT, "ad_tab_enable": False}], [{}],
     {"enabled": False, "units": [UNIT]}, {**UNIT, "enabled": False}, [True, {**UNIT, "ad_tap_enable": False}]],
)  # fmt: skip
def test_what_is_switched_off_does_nothing(draw, args):
    found = draw(args)
    assert "ADetailer" not in found.infotext
    assert "warnings" not in found.info


def test_what_has_no_effect_is_told(draw):
    found = draw([True, False, {**UNIT, "ad_bogus": 1}, "face_yolov8n.pt"])
    assert "'ad_bogus' of unit 0" in found.warnings
    assert "argument 3, which is no unit" in found.warnings
    assert "arguments without a unit" in draw([True]).warnings
    assert "arguments without a unit" in draw([]).warnings


@pytest.mark.parametrize(
    ("unit", "field"),
    [({"ad_confidence": 2}, "ad_confidence"), ({"ad_steps": 0}, "ad_steps"), ({"ad_mask_blur": "wide"}, "ad_mask_blur"),
     ({"ad_mask_merge_invert": "Both"}, "ad_mask_merge_invert"), ({"ad_clip_skip": 99}, "ad_clip_skip")],
)  # fmt: skip
def test_a_wrong_value_names_its_place(send, unit, field):
    reply = send([True, False, {**UNIT, **unit}])
    assert reply.status_code == 422
    assert field in json.dumps(reply.json())


@pytest.mark.parametrize(
    ("unit", "status", "words"),
    [
        ({"ad_model": "face_yolov8n.pt"}, 422, "face_yolov8n.pt is missing in"),
        ({"ad_model": "mediapipe_face_full"}, 422, "ad_builtin_face_fallback"),
        ({"ad_model": "face_mtcn"}, 422, "did you mean 'face_mtcnn'"),
        ({"ad_use_sampler": True, "ad_sampler": "No such"}, 404, "in unit 1 of ADetailer"),
        ({"ad_use_checkpoint": True, "ad_checkpoint": "no such"}, 404, "no such"),
        ({"ad_controlnet_model": "control_x"}, 422, "ControlNet"),
        ({"ad_restore_face": True}, 422, "in unit 1 of ADetailer"),
        ({"ad_use_inpaint_width_height": True, "ad_inpaint_width": 900000}, 413, "in unit 1 of ADetailer"),
    ],
)
def test_what_cannot_act_is_refused_before_anything_is_drawn(send, unit, status, words):
    reply = send([True, False, {**UNIT, **unit}])
    assert reply.status_code == status, reply.text
    assert words in reply.text


def test_too_many_units_are_refused(send):
    assert send([True, False, *[UNIT] * 17]).status_code == 422


def test_the_option_lets_the_built_in_detector_serve_other_names(detailed, server, original):
    """SillyTavern's switch names this file and asks for no list."""
    settings = {"override_settings": {"ad_builtin_face_fallback": True}}
    for name in ("face_yolov8n.pt", "mediapipe_face_short"):
        found = detailed({"ad_model": name}, **settings)
        assert np.array_equal(found.images[0], detailed().images[0])
        assert f"because {name} is missing" in found.warnings
        assert f"ADetailer model: {name}" in found.infotext
    listed = server.get("/adetailer/v1/ad_model").json()["ad_model"]
    assert "face_yolov8n.pt" not in listed
    server.post("/sdapi/v1/options", json={"ad_builtin_face_fallback": True})
    assert "face_yolov8n.pt" in server.get("/adetailer/v1/ad_model").json()["ad_model"]
    server.post("/sdapi/v1/options", json={"ad_builtin_face_fallback": False})


# --- where it stands -------------------------------------------------------------------------------------------------


def test_every_picture_of_every_batch_is_detailed_with_its_own_seed(draw, middle):
    plain = draw(batch_size=2, n_iter=2)
    found = draw([True, UNIT], batch_size=2, n_iter=2)
    assert middle.seen == [(64, 64)] * 4
    edge = (slice(None), slice(0, 2))
    for before, after in zip(plain.images[-4:], found.images[-4:], strict=True):
        assert not np.array_equal(before, after)
        assert np.array_equal(before[edge], after[edge])
    alone = draw([True, UNIT], seed=plain.info["all_seeds"][3])
    assert np.abs(alone.images[0] - found.images[-1]).max() <= 2, "a batch rounds in another order"


def test_hires_fix_is_detailed_once_at_its_size(draw, middle):
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 1}
    for only_masked in (True, False):
        found = draw([True, {**UNIT, "ad_inpaint_only_masked": only_masked}], **hires)
        assert found.images[0].shape == (128, 128, 3)
    assert middle.seen == [(128, 128)] * 2


def test_img2img_is_detailed_after_its_own_work(draw, photo, middle):
    small = photo.resize((64, 64))
    plain = draw(images=[small], denoising_strength=0.5).images[0]
    found = draw([True, False, UNIT], images=[small], denoising_strength=0.5).images[0]
    assert np.array_equal(plain[:2], found[:2])
    assert not np.array_equal(plain[24:40, 24:40], found[24:40, 24:40])


def test_regions_outside_of_the_inpainted_area_are_left_alone(draw, photo, middle):
    small, corner, centre = photo.resize((64, 64)), Image.new("L", (64, 64)), Image.new("L", (64, 64))
    corner.paste(255, (0, 0, 6, 6))
    centre.paste(255, (28, 28, 36, 36))
    whole = {"images": [small], "inpaint_full_res": False, "mask_blur": 0, "inpainting_fill": 1}
    for mask, acts in ((corner, False), (centre, True)):
        plain = draw(mask=png(mask), **whole).images[0]
        found = draw([True, False, UNIT], mask=png(mask), **whole)
        assert ("found nothing" in found.warnings) is not acts
        assert np.array_equal(plain, found.images[0]) is not acts
    assert "covers nothing" in draw([True, False, UNIT], mask=png(Image.new("L", (64, 64))), **whole).warnings
    assert "cannot skip img2img" in draw([True, True, UNIT], mask=png(centre), **whole).warnings


def test_pictures_on_the_way_are_saved_as_options_say(draw, factory, middle):
    folder = factory.data_dir / "outputs" / "steps"
    options = {"outdir_txt2img_samples": str(folder), "samples_filename_pattern": "[seed]", "save_to_dirs": False,
               "save_images_add_number": False, "ad_save_previews": True, "ad_save_images_before": True}  # fmt: skip
    draw([True, UNIT, UNIT], save_images=True, override_settings=options)
    names = sorted(path.name for path in Path(folder).iterdir())
    assert names == ["7-ad-before.png", "7-ad-preview-2.png", "7-ad-preview.png", "7.png"]
    assert "ADetailer model" in (factory.data_dir / "params.txt").read_text()


@pytest.mark.parametrize(
    ("options", "acts"),
    [({"ad_dynamic_denoise_power": 4.0}, True), ({"ad_match_inpaint_bbox_size": "Free"}, False)],
)
def test_the_size_of_a_region_can_matter(draw, middle, options, acts):
    unit = {**UNIT, "ad_denoising_strength": 0.9, "ad_use_steps": True, "ad_steps": 5}
    plain = draw([True, unit]).images[0]
    found = draw([True, unit], override_settings=options).images[0]
    # The region is a square, as the picture is: its own aspect ratio changes nothing.
    assert np.array_equal(plain, found) is not acts


def test_what_a_detector_raises_names_its_plugin(latentd_app):
    import latentd_detailer

    from latentd.api import DetectorSpec, hookimpl
    from latentd.testing import tiny_models

    class Faulty:
        __name__ = "faulty"

        @hookimpl
        def register_detectors(self, services: Any) -> list[DetectorSpec]:
            return [DetectorSpec(name="faulty", detect=lambda image, confidence, context: 1 / 0)]  # type: ignore[arg-type, return-value]

    weights = tiny_models.checkpoint("sd1", 3, vae_widths=tiny_models.EIGHTH)
    tiny_models.write(latentd_app.data_dir / "models/Stable-diffusion/one.safetensors", weights)
    client = latentd_app([latentd_detailer, Faulty()])
    body = {"prompt": "x", "steps": 1, "width": 64, "height": 64}
    reply = client.post(
        "/sdapi/v1/txt2img", json={**body, "alwayson_scripts": {"ADetailer": {"args": [{"ad_model": "faulty"}]}}}
    )
    assert reply.status_code == 500
    assert "'faulty'" in reply.text
    reply = client.post("/sdapi/v1/txt2img", json={**body, "alwayson_scripts": {"ADetailer": {"args": [UNIT]}}})
    assert (reply.status_code, "./plugins/facerestore" in reply.text) == (422, True)
