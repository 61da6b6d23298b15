"""Real generations stopped in the middle of a pass: what a cancel, an interrupt and a skip leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import BASE, services_on
from tests.stages.conftest import run, same

from latentd.api import hookimpl
from latentd.engine.job import Job, JobCancelled
from latentd.server.services import AppServices
from latentd.types import GenerationRequest, Result

HIRES = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 2.0, "denoising_strength": 0.7}
Act = Callable[[Job[Any]], object]


class Stopper:
    """A plugin that acts on the job after a step of a batch.

    It keeps the batches and passes whose steps it saw, and what was made of them: latents, a reply.
    """

    def __init__(self) -> None:
        self.begin(lambda job: None)

    def begin(self, act: Act, *, batch: int = 0, pass_name: str = "base", step: int = 1) -> None:
        self.act, self.where = act, (batch, pass_name, step)
        self.seen: list[tuple[int, str, int]] = []
        self.made: list[str] = []

    @hookimpl
    def after_step(self, generation: Any) -> None:
        here = generation.batch, generation.pass_name, generation.control.progress.sampling_step
        self.seen.append(here)
        if here == self.where:
            self.act(generation.control)

    @hookimpl
    def after_sample(self, generation: Any, latents: Any) -> None:
        self.made.append("latents")

    @hookimpl
    def after_process(self, generation: Any, result: Result) -> None:
        self.made.append("reply")


@pytest.fixture(scope="module")
def stopper() -> Stopper:
    return Stopper()


@pytest.fixture(scope="module")
def stopped(tiny_data: Path, stopper: Stopper) -> Iterator[AppServices]:
    services = services_on(tiny_data, plugins=[("stopper", stopper)], checkpoint="base.safetensors")
    yield services
    services.close()


def submit(services: AppServices, **fields: Any) -> Job[Result]:
    options = {"return_grid": False}
    request = GenerationRequest(**{**BASE, "steps": 4, "override_settings": options, **fields})
    job: Job[Result] = run(services.submit(request))
    return job


@pytest.mark.parametrize("fields", [{}, {"n_iter": 3}, HIRES], ids=["one pass", "batches", "hires fix"])
def test_a_cancelled_pass_is_the_end_and_gives_no_picture(
    stopped: AppServices, stopper: Stopper, fields: dict[str, Any]
) -> None:
    stopper.begin(lambda job: stopped.engine.cancel(job.id))
    job = submit(stopped, **fields)
    with pytest.raises(JobCancelled):
        job.join(60)
    assert job.status == "cancelled"
    assert job.result is None
    assert stopper.seen[-1] == (0, "base", 1), "nothing was sampled after it"
    assert stopper.made == [], "nothing was decoded, and no plugin was told of an end"


def test_a_cancel_in_a_later_batch_gives_nothing_of_the_earlier(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: stopped.engine.cancel(job.id), batch=1)
    with pytest.raises(JobCancelled):
        submit(stopped, n_iter=3).join(60)
    assert stopper.seen[-1] == (1, "base", 1)


def test_a_cancel_in_the_second_pass(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: stopped.engine.cancel(job.id), pass_name="hires")
    with pytest.raises(JobCancelled):
        submit(stopped, **HIRES).join(60)
    assert stopper.seen[-1] == (0, "hires", 1)


def test_an_interrupt_gives_what_there_is_and_ends_the_batches(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: stopped.engine.interrupt(), batch=1)
    result = submit(stopped, n_iter=3).join(60)
    assert result.interrupted
    state = stopped.engine.state()
    assert (state.interrupted, state.job_no) == (True, 2)
    assert [image.seed for image in result.images] == [7, 8]
    assert stopper.seen[-1] == (1, "base", 1)
    stopper.begin(lambda job: None)
    whole = submit(stopped, n_iter=2).join(60)
    assert same(result, whole)
    assert not same(result, whole, index=1, other_index=1)


def test_an_interrupted_first_pass_has_no_second(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: stopped.engine.interrupt())
    (image,) = submit(stopped, **HIRES).join(60).images
    assert image.image.size == (64, 64)
    assert {name for _, name, _ in stopper.seen} == {"base"}


def test_a_skip_cuts_one_batch_short_and_goes_on(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: stopped.engine.skip())
    job = submit(stopped, n_iter=2)
    result = job.join(60)
    assert not result.interrupted
    assert not job.progress.skipped, "A1111 clears the flag when the next batch begins"
    assert [image.seed for image in result.images] == [7, 8]
    assert stopper.seen == [(0, "base", 0), (0, "base", 1), *((1, "base", step) for step in range(4))]


def test_after_a_cancel_the_next_job_is_drawn_as_ever(stopped: AppServices, stopper: Stopper) -> None:
    stopper.begin(lambda job: None)
    before = submit(stopped).join(60)
    stopper.begin(lambda job: stopped.engine.cancel(job.id))
    with pytest.raises(JobCancelled):
        submit(stopped).join(60)
    stopper.begin(lambda job: None)
    assert same(submit(stopped).join(60), before)
