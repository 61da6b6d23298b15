"""A script draws a generation within the one that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.conftest import BASE, Draw, drawing_on, services_on

from latentd.api import (
    GenerationRequest,
    NotFound,
    Plan,
    Script,
    Services,
    draw_within,
    hookimpl,
    plan_within,
    save_intermediate,
)
from latentd.engine.job import JobCancelled
from latentd.server.services import AppServices

INNER: dict[str, Any] = {**BASE, "prompt": "a green square", "seed": 11}


class Inner(Script):
    """Draws over every picture what ``fields`` says, and keeps what it saw on the way."""

    title = "Inner"
    alwayson = True
    fields: dict[str, Any] = INNER
    seen: list[Any]

    def plan(self, plan: Plan, args: Any, services: Services) -> None:
        plan_within(plan, GenerationRequest(**self.fields), services)

    def postprocess_image(self, generation: Any, args: Any, image: Image.Image, index: int) -> Image.Image:
        save_intermediate(generation, image, index, suffix="-before-inner")
        count = generation.control.progress.job_count
        result = draw_within(generation, GenerationRequest(**self.fields, save_images=True))
        progress = generation.control.progress
        self.seen.append((progress.job_count - count, progress.job_no, result.info["sampler_name"]))
        return result.images[0].image


class Plugin:
    def __init__(self, script: Script) -> None:
        self.script = script

    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [self.script]


@pytest.fixture
def script() -> Inner:
    script = Inner()
    script.seen = []
    return script


@pytest.fixture
def services(data: Path, script: Inner) -> Iterator[AppServices]:
    services = services_on(data, plugins=[("inner", Plugin(script))])
    yield services
    services.close()


@pytest.fixture
def draw(services: AppServices) -> Draw:
    return drawing_on(services)


def pixels(image: Image.Image) -> Any:
    return np.asarray(image, dtype=int)


def test_it_is_the_generation_with_the_options_of_the_job(draw: Draw, script: Inner) -> None:
    options = {"CLIP_stop_at_last_layers": 2}
    alone = draw(options, **{name: INNER[name] for name in ("prompt", "seed")})
    within = draw(options, alwayson_scripts={"Inner": {"args": []}}, batch_size=2)
    assert all(np.array_equal(pixels(found.image), pixels(alone.images[0].image)) for found in within.images)
    assert script.seen == [(1, 2, "Euler"), (1, 3, "Euler")], "each counts in the job's progress"


def test_what_it_leaves_is_the_jobs(draw: Draw, services: AppServices, tmp_path: Path) -> None:
    folder = services.paths.data / "outputs" / "within"
    options = {
        "outdir_txt2img_samples": str(folder),
        "samples_filename_pattern": "[seed]",
        "save_images_add_number": False,
        "save_to_dirs": False,
    }
    draw(options, alwayson_scripts={"Inner": {"args": []}}, save_images=True)
    assert sorted(path.name for path in folder.iterdir()) == ["7-before-inner.png", "7.png"]
    assert (services.paths.data / "params.txt").read_text().startswith("a red circle\n")


def test_planning_refuses_what_it_would_refuse(draw: Draw, script: Inner) -> None:
    script.fields = {**INNER, "override_settings": {"sd_model_checkpoint": "no such"}}
    with pytest.raises(NotFound, match="no such"):
        draw(alwayson_scripts={"Inner": {"args": []}})
    assert not script.seen


@pytest.mark.parametrize(("stop", "ends"), [("request_cancel", True), ("interrupt", False)])
def test_what_stops_the_job_stops_it(services: AppServices, script: Inner, stop: str, ends: bool) -> None:
    def stopped(generation: Any, args: Any, image: Image.Image, index: int) -> Image.Image:
        getattr(generation.control, stop)()
        script.seen.append(draw_within(generation, GenerationRequest(**INNER)).images)
        return image

    script.postprocess_image = stopped  # type: ignore[method-assign]
    request = GenerationRequest(**BASE, alwayson_scripts={"Inner": {"args": []}})
    if ends:
        with pytest.raises(JobCancelled):
            asyncio.run(services.generate(request))
        assert script.seen == []
    else:
        assert len(asyncio.run(services.generate(request)).images) == 1
        assert script.seen == [()]
