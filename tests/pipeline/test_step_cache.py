"""Deep features of the UNet are reused between steps: by a threshold, never beside ControlNet, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline.conftest import drawing_on, services_on
from torch import Tensor

from latentd.generations import UNetHook
from latentd.models.modules.step_cache import StepCache
from latentd.models.modules.unet import UNetRunner
from latentd.types import Residuals, UNetCall

FIELDS: dict[str, Any] = {"width": 64, "height": 64, "steps": 12, "sampler_name": "Euler", "prompt": "a red circle"}


@pytest.fixture(scope="module")
def services(data: Path) -> Any:
    found = services_on(data)
    yield found
    found.close()


def call_of(sample: Tensor, is_cond: tuple[bool, ...] = (True, False)) -> UNetCall:
    rows = len(is_cond)
    return UNetCall(
        sample=sample, sigma=torch.ones(rows), timestep=torch.full((rows,), 500.0), context=torch.zeros(rows, 77, 64),
        added=None, is_cond=torch.tensor(is_cond), image_index=torch.zeros(rows, dtype=torch.long), step=0, steps=1,
        call_index=0, pass_name="base", refiner=False, concat=None, check=None,
    )  # fmt: skip


def test_features_are_kept_for_each_kind_of_call() -> None:
    cache = StepCache(0.1)
    shallow, deep = torch.ones(1, 2, 3, 3), torch.full((1, 4, 3, 3), 7.0)
    positive, negative = call_of(shallow, (True,)), call_of(shallow, (False,))
    assert cache.reuse(positive, shallow) is None
    cache.keep(positive, shallow, deep)
    assert cache.reuse(positive, shallow * 1.09) is deep
    assert cache.reuse(positive, shallow * 1.11) is None
    assert cache.reuse(negative, shallow) is None
    assert cache.reuse(positive, torch.ones(1, 2, 6, 6)) is None
    assert (cache.reused, cache.computed) == (1, 1)


def test_one_picture_that_changed_is_enough() -> None:
    cache, still = StepCache(0.1), torch.ones(2, 2, 3, 3)
    cache.keep(call_of(still), still, still)
    changed = still.clone()
    changed[1] *= 2
    assert cache.reuse(call_of(still), changed) is None


class Doubled(UNetHook):
    """Adds residuals of zeros, as a ControlNet of weight 0 would."""

    def residuals(self, call: UNetCall) -> Residuals:
        return Residuals(down=None, mid=torch.zeros(1, 1, 1, 1), intra=None)


def deep_calls(runner: UNetRunner, threshold: float, hooks: tuple[UNetHook, ...] = ()) -> int:
    """How often the middle block runs in three calls with nearly equal inputs."""
    counted: list[int] = []
    handle = runner.middle.modules[0].register_forward_hook(lambda *_: counted.append(1))
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), runner.session(hooks, step_cache=StepCache(threshold)):
        for number in range(3):
            runner.evaluate(call_of(sample * (1 + 0.001 * number)), hooks)
    handle.remove()
    return len(counted)


def test_the_middle_runs_only_where_it_must(services: Any) -> None:
    async def on_worker() -> list[int]:
        def work(control: object) -> list[int]:
            with services.models.lease() as model:
                runner = model.unet_runner
                return [
                    deep_calls(runner, 0.5),
                    deep_calls(runner, 1e-9),
                    deep_calls(runner, 0.5, (Doubled(),)),
                ]

        found: list[int] = await services.run_on_worker(work, kind="test")
        return found

    import asyncio

    assert asyncio.run(on_worker()) == [1, 3, 3]


def test_pictures(services: Any, caplog: pytest.LogCaptureFixture) -> None:
    draw = drawing_on(services)

    def pixels(threshold: float) -> tuple[Any, str]:
        image = draw({"step_cache_threshold": threshold}, **FIELDS).images[0]
        return np.asarray(image.image, dtype=int), str(image.infotext)

    (plain, _), (same, told_none), (near, told) = (pixels(t) for t in (0.0, 0.0, 0.2))
    assert (plain == same).all()
    assert "Step cache" not in told_none
    assert ", Step cache: 0.2" in told
    assert 0 < np.abs(near - plain).mean() < 12


@pytest.mark.parametrize(("merged", "told"), [(0.0, []), (0.5, ["had no effect in 12 of 12 calls"])])
def test_what_stood_in_its_way_is_told(services: Any, merged: float, told: list[str]) -> None:
    drawn = drawing_on(services)({"step_cache_threshold": 0.2, "token_merging_ratio": merged}, **FIELDS)
    warnings = [str(text) for text in drawn.info.get("warnings", [])]
    assert len(warnings) == len(told)
    for expected, warning in zip(told, warnings, strict=True):
        assert expected in warning
