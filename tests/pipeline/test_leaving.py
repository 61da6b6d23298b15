"""A job can be left within one evaluation of the UNet or the VAE, however long that takes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pipeline.conftest import BASE, services_on

from latentd.engine.job import Job, JobCancelled
from latentd.errors import Interrupted
from latentd.models.modules import attention
from latentd.server.services import AppServices
from latentd.types import GenerationRequest, Result

#: Steps, so that there is something to leave.
STEPS = 4
WAIT = 60.0


def submitted(services: AppServices, **fields: Any) -> Job[Result]:
    return asyncio.run(services.submit(GenerationRequest(**{**BASE, "steps": STEPS, **fields})))


@contextmanager
def calling(modules: list[Any], work: Callable[[int], None]) -> Iterator[None]:
    """Within it ``work`` is called before each call of one of ``modules``, with the number of those before."""
    count = iter(range(10**6))
    handles = [m.register_forward_pre_hook(lambda module, given: work(next(count))) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def modules_of(root: Any) -> list[Any]:
    return [module for module in root.modules() if type(module).__name__ == "ResnetBlock2D"]


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_job_that_is_cancelled_leaves_before_the_next_module(services: AppServices, part: str) -> None:
    with services.models.lease(None) as model:
        modules = modules_of(model.unet if part == "unet" else model.vae.decoder)
    begun = threading.Event()
    calls: list[int] = []

    def slow(number: int) -> None:
        begun.set()
        calls.append(number)
        if number == 1:
            services.engine.cancel(job.id)

    gate = threading.Event()
    services.engine.submit(lambda control: gate.wait(WAIT), kind="load", quiet=True)
    job = submitted(services)
    with calling(modules, slow):
        gate.set()
        with pytest.raises(JobCancelled):
            job.join(WAIT)
    assert calls == [0, 1]


def test_a_job_that_is_interrupted_within_a_step_gives_the_one_before(services: AppServices) -> None:
    with services.models.lease(None) as model:
        modules = modules_of(model.unet)
    per_call = len(modules)
    gate = threading.Event()
    services.engine.submit(lambda control: gate.wait(WAIT), kind="load", quiet=True)
    job = submitted(services)
    calls: list[int] = []

    def slow(number: int) -> None:
        calls.append(number)
        if number == 2 * per_call:
            job.interrupt()

    with calling(modules, slow):
        gate.set()
        assert len(job.join(WAIT).images) == 1
    assert len(calls) == 2 * per_call + 1


def test_jobs_that_share_a_batch_are_left_only_by_those_who_stop(data: Path) -> None:
    services = services_on(data, "--share-batches", "4")
    try:
        whole = submitted(services, seed=2).join(WAIT)
        with services.models.lease(None) as model:
            modules = modules_of(model.unet)
        gate = threading.Event()
        services.engine.submit(lambda control: gate.wait(WAIT), kind="load", quiet=True)
        jobs = [submitted(services, seed=seed) for seed in (1, 2)]
        with calling(modules, lambda number: services.engine.cancel(jobs[0].id) if number == 1 else None):
            gate.set()
            with pytest.raises(JobCancelled):
                jobs[0].join(WAIT)
            kept = jobs[1].join(WAIT)
        assert kept.images[0].image.tobytes() == whole.images[0].image.tobytes()
        gate.clear()
        services.engine.submit(lambda control: gate.wait(WAIT), kind="load", quiet=True)
        jobs = [submitted(services, seed=seed) for seed in (1, 2)]
        calls: list[int] = []

        def stop_all(number: int) -> None:
            calls.append(number)
            if number == 1:
                for job in jobs:
                    services.engine.cancel(job.id)

        with calling(modules, stop_all):
            gate.set()
            for job in jobs:
                with pytest.raises(JobCancelled):
                    job.join(WAIT)
        assert calls == [0, 1]
    finally:
        services.close()


def test_attention_of_many_queries_is_worked_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(2, 4, n, 8, generator=torch.manual_seed(1)) for n in (500, 300, 300))
    whole = attention._attend(q, k, v, None)
    checks: list[None] = []
    monkeypatch.setattr(attention, "MOST_PAIRS", 2 * 300 * 64)
    torch.testing.assert_close(attention._attend(q, k, v, lambda: checks.append(None)), whole)
    assert len(checks) == 8

    def leave() -> None:
        raise Interrupted("cancel")

    with pytest.raises(Interrupted):
        attention._attend(q, k, v, leave)


def test_libraries_are_out_of_garbage_collection_once_a_model_is_loaded(services: AppServices) -> None:
    """A full collection, which lets no thread run, would look at each of their objects."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    submitted(services).join(WAIT)
    watched = {id(found) for found in gc.get_objects()}
    assert watched.isdisjoint({id(UNet2DConditionModel), id(CLIPTextModel), id(torch.nn.Module)})
