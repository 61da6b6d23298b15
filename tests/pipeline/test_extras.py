"""The extras' steps, their order and what they write down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image

from latentd.errors import NotConfigured, NotFound, TooLarge
from latentd.options import OptionStore
from latentd.pipeline.extras.run import ExtrasRequest, check_extras, process
from latentd.plugins.contribution import Contribution
from latentd.plugins.registry import Registries
from latentd.services import FaceRestorerSpec, PostprocessorSpec, WorkerContext

PICTURE = Image.new("RGB", (96, 64), (10, 20, 30))


def _whiten(image: Image.Image, weight: float | None, context: WorkerContext) -> Image.Image:
    return Image.new("RGB", image.size, (210, 220, 230))


@pytest.fixture
def registry() -> Registries:
    found = Registries()
    found.commit(Contribution(plugin="test", face_restorers=[FaceRestorerSpec(name="GFPGAN", restore=_whiten)]))
    return found


def _run(registry: Registries, options: Mapping[str, Any] | None = None, **fields: Any) -> tuple[Image.Image, str]:
    context = WorkerContext(options=OptionStore().snapshot(options))
    done = process(PICTURE, ExtrasRequest(**fields), registry, context, max_pixels=10**6)
    return done.image, done.text


def test_no_upscaler_does_nothing(registry: Registries) -> None:
    image, text = _run(registry, upscaling_resize=3.0)
    assert (image.size, text) == ((96, 64), "")


def test_by_factor_the_size_is_a_multiple_of_eight(registry: Registries) -> None:
    image, text = _run(registry, upscaling_resize=1.7, upscaler_1="Lanczos")
    assert image.size == (160, 104)
    assert text == "Postprocess upscale by: 1.7, Postprocess upscaler: Lanczos"


def test_to_a_size_it_is_cropped_or_not(registry: Registries) -> None:
    size = {"resize_mode": 1, "upscaling_resize_w": 160, "upscaling_resize_h": 160, "upscaler_1": "Nearest"}
    image, text = _run(registry, **size)
    assert image.size == (160, 160)
    assert text == "Postprocess upscale to: 160x160, Postprocess crop to: 160x160, Postprocess upscaler: Nearest"
    assert _run(registry, **size, upscaling_crop=False)[0].size == (240, 160)


def test_a_second_upscaler_is_named(registry: Registries) -> None:
    text = _run(registry, upscaler_1="Nearest", upscaler_2="Lanczos", extras_upscaler_2_visibility=0.4)[1]
    assert text.endswith("Postprocess upscaler: Nearest, Postprocess upscaler 2: Lanczos")


def test_the_longest_side_may_be_bounded(registry: Registries) -> None:
    assert _run(registry, upscaler_1="Lanczos", upscaling_resize=8.0, max_side_length=192)[0].size == (192, 128)


def test_a_result_over_the_bound_is_refused(registry: Registries) -> None:
    with pytest.raises(TooLarge):
        _run(registry, upscaler_1="Lanczos", upscaling_resize=100.0)


def test_faces_are_blended_by_visibility(registry: Registries) -> None:
    image, text = _run(registry, gfpgan_visibility=0.5)
    assert image.getpixel((0, 0)) == (110, 120, 130)
    assert text == "GFPGAN visibility: 0.5"


def test_an_option_reorders_the_steps(registry: Registries) -> None:
    wanted = {"gfpgan_visibility": 1.0, "upscaler_1": "Nearest"}
    assert _run(registry, **wanted)[1].endswith("GFPGAN visibility: 1.0")
    reordered = _run(registry, {"postprocessing_operation_order": ["GFPGAN", "Upscale"]}, **wanted)[1]
    assert reordered.startswith("GFPGAN visibility: 1.0")


def test_a_plugins_step_sees_the_whole_request(registry: Registries) -> None:
    def grey(image: Image.Image, params: Mapping[str, Any], context: WorkerContext) -> Any:
        return image.convert("L"), {"Grey": params["degree"]}

    step = PostprocessorSpec(name="Grey", order=5000, run=grey)
    registry.commit(Contribution(plugin="grey", postprocessors=[step]))
    image, text = _run(registry, raw={"degree": 3})
    assert (image.mode, text) == ("RGB", "Grey: 3")


def test_unknown_names_are_refused_beforehand(registry: Registries) -> None:
    with pytest.raises(NotFound, match="could not find upscaler named Nope"):
        check_extras(ExtrasRequest(upscaler_1="Nope"), registry)
    with pytest.raises(NotConfigured, match="CodeFormer"):
        check_extras(ExtrasRequest(codeformer_visibility=1.0), registry)
    check_extras(ExtrasRequest(upscaler_1="Lanczos", gfpgan_visibility=1.0), registry)


def test_steps_may_be_left_out_by_option(registry: Registries) -> None:
    wanted = {"gfpgan_visibility": 1.0, "upscaler_1": "Nearest"}
    image, text = _run(registry, {"postprocessing_disable_in_extras": ["Upscale"]}, **wanted)
    assert (image.size, text) == (PICTURE.size, "GFPGAN visibility: 1.0")


def _stamp(name: str) -> PostprocessorSpec:
    """A step that writes down its parameter ``mark``."""
    return PostprocessorSpec(name=name, order=1, run=lambda image, params, context: (image, {name: params["mark"]}))


@pytest.mark.parametrize(
    ("asked", "disabled", "text"),
    [
        ({}, [], "First: 0, Second: 0"),
        ({}, ["First"], "Second: 0"),
        ({"First": True}, ["First"], "First: 0, Second: 0"),
        ({"First": False}, [], "Second: 0"),
        ({"First": False, "Second": {"mark": 7}}, [], "Second: 7"),
        ({"Upscale": False}, [], "First: 0, Second: 0"),
    ],
)
def test_a_step_is_asked_for_and_left_out_by_name(asked: Any, disabled: list[str], text: str) -> None:
    registry = Registries()
    registry.commit(Contribution(plugin="test", postprocessors=[_stamp("First"), _stamp("Second")]))
    options = {"postprocessing_disable_in_extras": disabled}
    upscaler = {"upscaler_1": "Nearest"} if "Upscale" in asked else {}
    image, found = _run(registry, options, postprocessors=asked, raw={"mark": 0}, **upscaler)
    assert (found, image.size) == (text, PICTURE.size)


def test_an_unknown_step_is_refused_before_anything_is_computed() -> None:
    registry = Registries()
    registry.commit(Contribution(plugin="test", postprocessors=[_stamp("First")]))
    with pytest.raises(NotFound, match="could not find postprocessor named Frist") as missing:
        check_extras(ExtrasRequest(postprocessors={"Frist": True}), registry)
    assert missing.value.hint == "did you mean 'First'?"
