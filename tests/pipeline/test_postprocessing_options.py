"""What is done to a finished picture, and saved of it on the way, as options say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.errors import InvalidRequest, NotConfigured, NotFound
from latentd.hookspecs import hookimpl
from latentd.server.services import AppServices
from latentd.services import FaceRestorerSpec, WorkerContext


class Faces:
    """A plugin with a face restorer under each of A1111's names; they whiten the picture."""

    @hookimpl
    def register_face_restorers(self) -> list[FaceRestorerSpec]:
        return [FaceRestorerSpec(name=name, restore=_whiten) for name in ("CodeFormer", "GFPGAN")]


def _whiten(image: Image.Image, weight: float | None, context: WorkerContext) -> Image.Image:
    return Image.new("RGB", image.size, "white")


@pytest.fixture(scope="module")
def services(data: Path) -> Iterator[AppServices]:
    services = services_on(data, plugins=[("faces", Faces())])
    yield services
    services.close()


@pytest.fixture
def draw(services: AppServices) -> Draw:
    return drawing_on(services)


def pixels(image: Image.Image) -> Any:
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize(("keep", "names"), [(True, ["7-before-face-restoration.png", "7.png"]), (False, ["7.png"])])
def test_save_images_before_face_restoration(
    draw: Draw, services: AppServices, tmp_path: Path, keep: bool, names: Sequence[str]
) -> None:
    folder = services.paths.data / "outputs" / f"out-{keep}"
    options = {
        "save_images_before_face_restoration": keep,
        "outdir_txt2img_samples": str(folder),
        "samples_filename_pattern": "[seed]",
        "save_images_add_number": False,
        "save_to_dirs": False,
    }
    plain = draw().images[0].image
    restored = draw(options, restore_faces=True, save_images=True).images[0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert pixels(restored.image).min() == 255
    assert "Face restoration: CodeFormer" in str(restored.infotext)
    if keep:
        with Image.open(folder / names[0]) as before:
            assert np.array_equal(pixels(before), pixels(plain))


ENABLED = {"postprocessing_enable_in_main_ui": ["Upscale", "Simple Upscale", "GFPGAN", "CodeFormer"]}


def test_face_restorers_act_on_generated_pictures(draw: Draw) -> None:
    plain = draw().images[0].image
    half = draw(ENABLED, alwayson_scripts={"GFPGAN": {"args": [0.5]}}).images[0]
    assert np.abs(pixels(half.image) - (pixels(plain) + 255) / 2).max() <= 1
    assert "GFPGAN visibility: 0.5" in str(half.infotext)
    whole = draw(ENABLED, alwayson_scripts={"codeformer": {"args": [True, 1.0, 0.3]}}).images[0]
    assert pixels(whole.image).min() == 255
    assert "CodeFormer visibility: 1.0, CodeFormer weight: 0.3" in str(whole.infotext)
    none = draw(ENABLED, alwayson_scripts={"CodeFormer": {"args": [False, 1.0, 0.3]}}).images[0]
    assert np.array_equal(pixels(none.image), pixels(plain))


@pytest.mark.parametrize(
    "args",
    [
        [0, 2.0, 512, 512, True, "Nearest", "None", 0.0],
        [True, 0, 2.0, 512, 512, True, "Nearest", "None", 0.0],
        [True, 0, 2.0, 0, 512, 512, True, "Nearest", "None", 0.0],
        {"upscale_by": 2.0, "upscaler_1_name": "Nearest"},
    ],
    ids=["early", "1.8", "1.10", "names"],
)
def test_generated_pictures_are_enlarged(draw: Draw, args: Any) -> None:
    plain = draw().images[0].image
    large = draw(ENABLED, alwayson_scripts={"Upscale": {"args": args}}).images[0]
    assert np.array_equal(pixels(large.image), pixels(plain.resize((128, 128), Image.Resampling.NEAREST)))
    assert "Postprocess upscale by: 2.0, Postprocess upscaler: Nearest" in str(large.infotext)


def test_the_simple_form_enlarges_too(draw: Draw) -> None:
    script = {"Simple Upscale": {"args": [1.5, "Lanczos"]}}
    assert draw(ENABLED, alwayson_scripts=script).images[0].image.size == (96, 96)


def test_what_the_option_does_not_name_is_unknown(draw: Draw) -> None:
    with pytest.raises(InvalidRequest, match="Script 'GFPGAN' not found"):
        draw({"postprocessing_enable_in_main_ui": ["Upscale"]}, alwayson_scripts={"GFPGAN": {"args": [1.0]}})


def test_unknown_upscalers_are_refused_before_anything_is_drawn(draw: Draw) -> None:
    with pytest.raises((NotFound, NotConfigured), match="Nope"):
        draw(ENABLED, alwayson_scripts={"Simple Upscale": {"args": [2.0, "Nope"]}})


def test_nothing_is_done_unless_asked(draw: Draw) -> None:
    plain, enabled = draw().images[0], draw(ENABLED).images[0]
    assert np.array_equal(pixels(plain.image), pixels(enabled.image))
    assert plain.infotext == enabled.infotext


def test_face_restoration_and_its_model_are_options(draw: Draw) -> None:
    drawn = draw({"face_restoration": True, "face_restoration_model": "GFPGAN"})
    assert "Face restoration: GFPGAN" in str(drawn.images[0].infotext)
    assert pixels(drawn.images[0].image).min() == 255
    assert "Face restoration" not in str(draw({"face_restoration": True}, restore_faces=False).images[0].infotext)
