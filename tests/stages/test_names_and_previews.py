"""Names of saved files are made in one way for generations and scripts; previews go on in every pass and batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.pipeline.conftest import drawing_on, services_on
from tests.stages.conftest import Draw

from latentd.api import Script, hookimpl
from latentd.pipeline.passes import previews
from latentd.pipeline.script_runs import ScriptRuns
from latentd.server.services import AppServices

PROMPT = "a red circle: the first of a long row of circles"


class Grid(Script):
    """A script that saves its picture as a grid and as a sample."""

    title = "Grid"

    def run(self, services: Any, plan: Any, args: Any, control: Any) -> Any:
        runs = ScriptRuns(services, plan, control)
        result = runs.generate(runs.plan_for(runs.request))
        for grid in (True, False):
            runs.save(Image.new("RGB", (8, 8)), "text", result.info, basename="grid" if grid else "", grid=grid)
        return result


class Plugin:
    @hookimpl
    def register_scripts(self) -> list[Script]:
        return [Grid()]


@pytest.fixture(scope="module")
def unix(tiny_data: Path) -> Iterator[AppServices]:
    """A server that replaces only the slash in names, and cuts them short."""
    flags = ["--unix-filenames-sanitization", "--filenames-max-length", "20"]
    services = services_on(tiny_data, *flags, plugins=[("grids", Plugin())], checkpoint="base.safetensors")
    yield services
    services.close()


@pytest.mark.parametrize("to_dirs", [True, False])
def test_generations_and_scripts_name_their_files_alike(unix: AppServices, to_dirs: bool) -> None:
    options = {
        "save_to_dirs": to_dirs,
        "grid_save_to_dirs": to_dirs,
        "directories_filename_pattern": "[prompt]",
        "samples_filename_pattern": "[prompt_spaces]",
        "grid_extended_filename": True,
    }
    drawing_on(unix)(options, prompt=PROMPT, script_name="Grid", save_images=True)
    cut, folder = "a red circle: the fi", "a_red_circle:_the_fi" if to_dirs else ""
    outputs = unix.paths.data / "output"
    samples = sorted(path.name for path in (outputs / "txt2img-images" / folder).glob("*.png"))
    assert samples == [f"00000-{cut}.png", f"00001-{cut}.png"]
    assert [path.name for path in (outputs / "txt2img-grids" / folder).glob("*.png")] == [f"grid-0000-{cut}.png"]


def _shown_at(draw: Draw, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[tuple[int, int]]:
    """(job number, step) of every preview."""
    shown: list[tuple[int, int]] = []
    show = previews.show_preview

    def spy(gen: Any, state: Any) -> None:
        shown.append((gen.control.progress.job_no, gen.control.progress.sampling_step))
        show(gen, state)

    monkeypatch.setattr("latentd.pipeline.passes.sampling_pass.show_preview", spy)
    draw({"show_progress_type": "Approx cheap", "show_progress_every_n_steps": 2}, **fields)
    return shown


def test_every_batch_and_pass_has_previews(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = _shown_at(draw, monkeypatch, steps=4, n_iter=2)
    assert {number for number, _ in batches} == {0, 1}
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "hr_second_pass_steps": 4, "denoising_strength": 0.9}
    passes = _shown_at(draw, monkeypatch, steps=4, **hires)
    assert {number for number, _ in passes} == {0, 1}
