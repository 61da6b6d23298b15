"""CFG 1 through the whole pipeline: half the rows, the same picture, and the negative wherever somebody sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.conftest import Draw, drawing_on, services_on

from latentd.api import hookimpl
from latentd.pipeline.passes.denoiser import CfgDenoiser, Evaluation
from latentd.types import Result

Rows = list[bool]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows that the UNet is asked for, as they come: whether each is the prompt's."""
    asked: Rows = []
    prepare = CfgDenoiser.prepare

    def watched(self: CfgDenoiser, *arguments: Any) -> Evaluation:
        evaluation = prepare(self, *arguments)
        asked.extend(row for call in evaluation.calls for row in call.is_cond.tolist())
        return evaluation

    monkeypatch.setattr(CfgDenoiser, "prepare", watched)
    return asked


class Watcher:
    """A plugin that looks at both predictions and changes nothing."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    @hookimpl
    def modify_guidance(self, generation: Any, x0: Any, cond: Any, uncond: Any) -> None:
        self.seen.append(uncond is not None)


@pytest.fixture(scope="module")
def watched(data: Path) -> Iterator[tuple[Draw, Watcher]]:
    plugin = Watcher()
    services = services_on(data, plugins=[("watcher", plugin)])
    yield drawing_on(services), plugin
    services.close()


def far(one: Result, other: Result) -> int:
    a, b = (np.asarray(r.images[0].image, dtype=int) for r in (one, other))
    return int(np.abs(a - b).max())


WAYS: dict[str, dict[str, Any]] = {
    "euler": {"sampler_name": "Euler"},
    "second-order": {"sampler_name": "DPM++ 2M", "scheduler": "Karras"},
    "ancestral": {"sampler_name": "Euler a"},
    "timestep": {"sampler_name": "DDIM"},
    "unequal-lengths": {"negative_prompt": "blue, " * 60},
    "batch": {"batch_size": 2},
    "hires": {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.7},
    "refiner": {"refiner_checkpoint": "tiny-b", "refiner_switch_at": 0.5, "steps": 4},
    "inpainting-model": {"override_settings": {"sd_model_checkpoint": "tiny-inpainting"}},
    "img2img": {"mode": "img2img", "init_images": (Image.new("RGB", (64, 64), "red"),), "denoising_strength": 0.8},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_picture_is_the_same(draw: Draw, watched: tuple[Draw, Watcher], rows: Rows, way: str) -> None:
    fields = {"cfg_scale": 1.0, "negative_prompt": "a blue square", "steps": 3, **WAYS[way]}
    options = fields.pop("override_settings", {})
    half = draw(options, **fields)
    asked = list(rows)
    rows.clear()
    whole = watched[0](options, **fields)
    assert far(half, whole) <= 1
    assert all(asked)
    assert len(rows) == 2 * len(asked)
    assert watched[1].seen[-1]
    assert draw(options, **fields | {"cfg_scale": 7.0}).images[0].image.tobytes() != half.images[0].image.tobytes()


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"prompt": "a red circle AND a house"}),
        ({}, {"prompt": "a red circle :0.6"}),
        ({"live_preview_content": "Negative prompt"}, {}),
        ({}, {"sampler_name": "DDIM CFG++"}),
        ({}, {"s_min_uncond": 0.01}),
        ({}, {"cfg_scale": 1.5}),
    ],
    ids=["and", "weight", "preview", "cfg++", "s-min-uncond", "scale"],
)
def test_what_sees_the_negative_gets_it(
    draw: Draw, rows: Rows, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    draw(options, **{"cfg_scale": 1.0, **fields})
    assert False in rows
