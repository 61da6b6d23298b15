"""Generations whose passes are sampled together: whose rows are whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pipeline.conftest import BASE, services_on
from tests.stages.conftest import pixels

from latentd.engine.job import Job
from latentd.errors import Interrupted
from latentd.models.modules.unet import UNetRunner
from latentd.pipeline.planning.build import build_plan
from latentd.pipeline.sharing_key import sharing_key
from latentd.pipeline.together import Member, generate_together
from latentd.server.services import AppServices
from latentd.types import GenerationRequest, Result, UNetCall

#: Texts of one and of two chunks, a composition, a batch of two.
REQUESTS: Sequence[dict[str, Any]] = (
    {"prompt": "a red circle", "seed": 1},
    {"prompt": "a house AND snow:0.6", "seed": 2, "batch_size": 2, "cfg_scale": 4.0},
    {"prompt": "a cat, " + "very detailed, " * 40, "negative_prompt": "ugly", "seed": 5},
)


@pytest.fixture(scope="module")
def sharing(tiny_data: Path) -> Iterator[AppServices]:
    """Without a plugin that takes part in sampling."""
    services = services_on(tiny_data, checkpoint="base.safetensors")
    yield services
    services.close()


def request(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{**BASE, "override_settings": {"return_grid": False}, **fields})


class Ends:
    """What each of the generations came to."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self.errors: dict[int, BaseException] = {}

    def conclude(self, number: int, result: Result | None, error: BaseException | None) -> None:
        if result is not None:
            self.results[number] = result
        if error is not None:
            self.errors[number] = error


def together(services: AppServices, jobs: Sequence[Job[Any]]) -> Ends:
    """Carry out :data:`REQUESTS` together, under the controls of ``jobs``."""
    plans = [build_plan(request(**fields), services) for fields in REQUESTS]
    keys = {repr(sharing_key(plan, services)) for plan in plans}
    assert len(keys) == 1, "they may share"
    ends = Ends()

    def concluding(number: int) -> Any:
        return lambda result, error: ends.conclude(number, result, error)

    members = [Member(plan, job, concluding(n)) for n, (plan, job) in enumerate(zip(plans, jobs, strict=True))]

    def work(control: Job[None]) -> None:
        generate_together(members, services)

    services.engine.submit(work, kind="txt2img").join(60)
    return ends


def controls() -> list[Job[Any]]:
    made = [Job(lambda job: None, id=f"job {n}", kind="txt2img") for n in range(len(REQUESTS))]
    for job in made:
        job.begin("cpu", 0)
    return made


def test_each_picture_is_the_one_it_is_alone(sharing: AppServices, draw: Any) -> None:
    ends = together(sharing, controls())
    assert not ends.errors
    for number, fields in enumerate(REQUESTS):
        alone = draw({"return_grid": False}, **fields)
        assert len(alone.images) == len(ends.results[number].images)
        for index in range(len(alone.images)):
            assert abs(pixels(ends.results[number], index) - pixels(alone, index)).max() <= 1


def test_rows_name_the_pictures_of_the_whole_batch(sharing: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """``image_index`` of a merged call counts through the pictures of all: 1 of the first, 2 of the second, 1."""
    calls: list[UNetCall] = []
    evaluate = UNetRunner.evaluate

    def spy(self: UNetRunner, call: UNetCall, hooks: Any = ()) -> torch.Tensor:
        calls.append(call)
        return evaluate(self, call, hooks)

    monkeypatch.setattr(UNetRunner, "evaluate", spy)
    together(sharing, controls())
    step = [call for call in calls if call.call_index == 0]
    rows = [row for call in step for row in zip(call.is_cond.tolist(), call.image_index.tolist(), strict=True)]
    conditional = sorted(index for is_cond, index in rows if is_cond)
    assert conditional == [0, 1, 1, 2, 2, 3], "two prompts of a composition each"
    assert sorted(index for is_cond, index in rows if not is_cond) == [0, 1, 2, 3]
    assert len(step) == 2, "texts of one chunk, and of two"


def test_one_that_is_cancelled_ends_alone(sharing: AppServices, draw: Any) -> None:
    jobs = controls()
    jobs[1].request_cancel()
    ends = together(sharing, jobs)
    assert set(ends.results) == {0, 2}
    assert isinstance(ends.errors[1], Interrupted)
    assert abs(pixels(ends.results[2]) - pixels(draw(**REQUESTS[2]))).max() <= 1
