"""Jobs that share denoising batches: the same pictures and answers as by themselves, and no harm to one another."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tests.e2e.calls import INPUTS, difference

from latentd.api import hookimpl
from latentd.engine.job import Job, JobCancelled
from latentd.errors import PluginError
from latentd.models.modules.unet import UNetRunner
from latentd.pipeline.generation import RunningGeneration
from latentd.pipeline.planning.build import build_plan
from latentd.pipeline.sharing_key import sharing_key, sharing_size
from latentd.server.app import create_app
from latentd.server.services import AppServices
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, Result, UNetCall

#: Of 255: matrix products of several jobs' rows may round otherwise than those of one.
ROUNDING = 1
PATIENCE = 120.0
BASE = GenerationRequest(prompt="a red circle", steps=4, width=64, height=64, seed=7, subseed=8, sampler_name="Euler")
#: Texts of one and of two chunks, edited, alternating, composed; guidance and seeds of each one's own.
VARIED = (
    {"prompt": "a [red:blue:0.5] circle", "cfg_scale": 4.0, "seed": 1},
    {"prompt": "a [cat|dog], " + "very detailed, " * 40, "negative_prompt": "ugly", "cfg_scale": 9.0, "seed": 2},
    {"prompt": "a (house:1.3) AND snow:0.6", "negative_prompt": "blue, " * 60, "seed": 3, "batch_size": 2},
    {"prompt": "", "seed": 4, "subseed": 5, "subseed_strength": 0.3},
)


@hookimpl
def postprocess_image(generation: Any, image: Image.Image, index: int) -> None:
    if "breaks" in generation.request.prompt:
        raise RuntimeError("this one only")


PLUGIN = ("breaker", SimpleNamespace(postprocess_image=postprocess_image))


@pytest.fixture(scope="module")
def client(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server in this process that lets up to eight pictures share a batch, and has a plugin for finished pictures."""
    data = tmp_path_factory.mktemp("sharing")
    (data / "models").symlink_to(tiny_data / "models")
    settings = parse_settings(["--data-dir", str(data), "--share-batches", "8", "--core-only"], environment={})
    with TestClient(create_app(settings, extra_plugins=[PLUGIN]), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def services(client: TestClient) -> AppServices:
    found: AppServices = client.app.state.services  # type: ignore[attr-defined]
    asyncio.run(found.generate(BASE))
    return found


def alone(services: AppServices, *requests: GenerationRequest) -> list[Result]:
    return [asyncio.run(services.generate(request)) for request in requests]


class Together:
    """Jobs that all wait when the worker comes for them: they are submitted while another job holds it."""

    def __init__(self, services: AppServices, caplog: pytest.LogCaptureFixture) -> None:
        self._services = services
        self._caplog = caplog

    def __call__(self, *requests: GenerationRequest, shared: bool = True) -> list[Job[Result]]:
        self._caplog.set_level(logging.INFO, "latentd.engine.worker")
        self._caplog.clear()
        with self.held():
            jobs = [asyncio.run(self._services.submit(request)) for request in requests]
        until(lambda: all(job.started for job in jobs))
        assert any(job.id in m for m in self.notes() for job in jobs) is shared
        return jobs

    @contextmanager
    def held(self) -> Iterator[None]:
        gate = threading.Event()
        self._services.engine.submit(lambda job: gate.wait(PATIENCE), kind="load", quiet=True)
        try:
            yield
        finally:
            gate.set()

    def notes(self) -> list[str]:
        return [r.getMessage() for r in self._caplog.records if "share their batches" in r.getMessage()]


@pytest.fixture
def together(services: AppServices, caplog: pytest.LogCaptureFixture) -> Together:
    return Together(services, caplog)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def assert_same(one: Result, other: Result) -> None:
    """The same answer: pictures up to rounding, texts to the byte."""
    first, second = ({**result.info, "job_timestamp": ""} for result in (one, other))
    assert json.dumps(first) == json.dumps(second)
    for a, b in zip(one.images, other.images, strict=True):
        assert (a.infotext, a.info, a.seed, a.role) == (b.infotext, b.info, b.seed, b.role)
        assert difference(a.image, b.image) <= ROUNDING


@pytest.mark.parametrize(
    "sampler",
    ["Euler", "Euler a", "DPM++ SDE", "DPM++ 2M SDE Karras", "DDIM", "UniPC"],
)
def test_company_changes_no_picture(services: AppServices, together: Together, sampler: str) -> None:
    requests = [replace(BASE, sampler_name=sampler, **fields) for fields in VARIED]
    expected = alone(services, *requests)
    for job, result in zip(together(*requests), expected, strict=True):
        assert_same(job.join(PATIENCE), result)


def test_guidance_that_samplers_look_into_is_each_ones_own(services: AppServices, together: Together) -> None:
    requests = [replace(BASE, sampler_name="DDIM CFG++", s_min_uncond=2.0, **fields) for fields in VARIED]
    expected = alone(services, *requests)
    for job, result in zip(together(*requests), expected, strict=True):
        assert_same(job.join(PATIENCE), result)


@pytest.mark.parametrize("masked", [False, True])
def test_img2img_shares_too(services: AppServices, together: Together, masked: bool) -> None:
    pictures = [Image.open(INPUTS / "init128.png").convert("RGB").resize((64, 64)).rotate(angle) for angle in (0, 90)]
    masks = [Image.new("L", (64, 64)), None]
    masks[0].paste(255, (16, 16, 48, 48))  # type: ignore[union-attr]
    requests = [
        replace(BASE, mode="img2img", init_images=(picture,), mask=mask if masked else None, seed=n, sampler_index=None)
        for n, (picture, mask) in enumerate(zip(pictures, masks, strict=True))
    ]
    expected = alone(services, *requests)
    for job, result in zip(together(*requests), expected, strict=True):
        assert_same(job.join(PATIENCE), result)


def test_networks_of_the_tags_act_on_all(services: AppServices, together: Together) -> None:
    tags = "<lora:words:0.8> <lora:lines:0.5>"
    requests = [replace(BASE, prompt=f"{text} {tags}", seed=n) for n, text in enumerate(("one", "two"))]
    expected = alone(services, *requests)
    plain = alone(services, replace(BASE, prompt="one", seed=0))
    assert difference(expected[0].images[0].image, plain[0].images[0].image) > ROUNDING
    for job, result in zip(together(*requests), expected, strict=True):
        assert_same(job.join(PATIENCE), result)


def test_batches_of_different_numbers(services: AppServices, together: Together) -> None:
    requests = [replace(BASE, n_iter=3, seed=1), replace(BASE, batch_size=3, seed=5), replace(BASE, seed=9)]
    expected = alone(services, *requests)
    jobs = together(*requests)
    for job, result in zip(jobs, expected, strict=True):
        assert_same(job.join(PATIENCE), result)
    assert (jobs[0].progress.job_no, jobs[1].progress.job_no) == (3, 1)
    assert jobs[1].finished <= jobs[0].finished, "nobody waits for another's further batches"  # type: ignore[operator]


LONG = replace(BASE, steps=8)
MIDDLE = 3


class Gate:
    """Holds the worker in the middle of sampling, before the model's call number ``last`` of a pass."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._stands = False
        self._moved = threading.Condition()

    def close(self, last: int) -> None:
        """Hold the worker before call ``last``; let it go on from an earlier one."""
        with self._moved:
            self._last, self._stands = last, False
            self._moved.notify_all()

    def open(self) -> None:
        """Hold the worker no longer."""
        with self._moved:
            self._last = None
            self._moved.notify_all()

    def pass_through(self, call: UNetCall) -> None:
        """The worker is about to make ``call``."""
        with self._moved:
            self._stands = self._last is not None and call.call_index >= self._last
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: self._last is None or call.call_index < self._last, PATIENCE)

    def reached(self) -> None:
        """Wait until the worker stands there."""
        with self._moved:
            assert self._moved.wait_for(lambda: self._stands, PATIENCE)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    evaluate = UNetRunner.evaluate

    def held(self: UNetRunner, call: UNetCall, hooks: Any = ()) -> Any:
        gate.pass_through(call)
        return evaluate(self, call, hooks)

    monkeypatch.setattr(UNetRunner, "evaluate", held)
    yield gate
    gate.open()


@pytest.mark.parametrize("first", [True, False], ids=["the first", "another"])
def test_interrupting_one_answers_it_at_once_and_leaves_the_others(
    services: AppServices, together: Together, gate: Gate, first: bool
) -> None:
    requests = [replace(LONG, seed=n) for n in (1, 2, 3)]
    expected = alone(services, *requests)
    gate.close(MIDDLE)
    jobs = together(*requests)
    stopped = jobs.pop(0 if first else 1)
    expected.pop(0 if first else 1)
    gate.reached()
    stopped.interrupt()
    gate.close(MIDDLE + 2)
    result = stopped.join(PATIENCE)
    assert (result.interrupted, len(result.images)) == (True, 1)
    assert not any(job.ended for job in jobs), "it need not wait for the others"
    gate.open()
    for job, whole in zip(jobs, expected, strict=True):
        assert_same(job.join(PATIENCE), whole)


def test_cancelling_one_leaves_the_others(services: AppServices, together: Together, gate: Gate) -> None:
    requests = [replace(LONG, seed=n) for n in (1, 2)]
    expected = alone(services, requests[1])
    gate.close(MIDDLE)
    cancelled, other = together(*requests)
    gate.reached()
    services.engine.cancel(cancelled.id)
    gate.open()
    with pytest.raises(JobCancelled):
        cancelled.join(PATIENCE)
    assert_same(other.join(PATIENCE), expected[0])


def test_a_skip_ends_only_that_jobs_batch(services: AppServices, together: Together, gate: Gate) -> None:
    requests = [replace(LONG, seed=1, n_iter=2), replace(LONG, seed=9)]
    expected = alone(services, *requests)
    gate.close(MIDDLE)
    skipped, other = together(*requests)
    gate.reached()
    skipped.skip()
    gate.open()
    assert_same(other.join(PATIENCE), expected[1])
    result = skipped.join(PATIENCE)
    assert len(result.images) == len(expected[0].images)
    assert difference(result.images[-1].image, expected[0].images[-1].image) <= ROUNDING
    assert skipped.progress.job_no == 2


def test_a1111s_interrupt_stops_all_that_run(client: TestClient, together: Together, gate: Gate) -> None:
    gate.close(MIDDLE)
    jobs = together(*(replace(LONG, seed=n) for n in (1, 2)))
    gate.reached()
    assert client.post("/sdapi/v1/interrupt").status_code == 200
    gate.open()
    assert all(job.join(PATIENCE).interrupted for job in jobs)


def test_an_error_in_one_fails_that_one(services: AppServices, together: Together) -> None:
    requests = [replace(BASE, seed=1), replace(BASE, prompt="it breaks"), replace(BASE, seed=3)]
    expected = alone(services, requests[0], requests[2])
    first, broken, last = together(*requests)
    with pytest.raises(PluginError, match="this one only"):
        broken.join(PATIENCE)
    assert_same(first.join(PATIENCE), expected[0])
    assert_same(last.join(PATIENCE), expected[1])


def test_what_is_too_large_for_the_device_goes_on_one_by_one(
    services: AppServices, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [replace(BASE, sampler_name="Euler a", seed=n) for n in (1, 2, 3)]
    expected = alone(services, *requests)
    whole = UNetRunner.evaluate

    def small(self: UNetRunner, call: Any, hooks: Any = ()) -> Any:
        if call.sample.shape[0] > 2 and call.call_index == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, call, hooks)

    monkeypatch.setattr(UNetRunner, "evaluate", small)
    for job, result in zip(together(*requests), expected, strict=True):
        assert_same(job.join(PATIENCE), result)


def test_nothing_of_a_shared_batch_stays_in_memory(services: AppServices, together: Together) -> None:
    jobs = together(*(replace(BASE, seed=n) for n in (1, 2)), replace(BASE, prompt="it breaks"))
    until(lambda: all(job.ended for job in jobs))
    services.engine.submit(lambda job: True, kind="load", quiet=True).join(PATIENCE)
    assert not [o for o in gc.get_objects() if isinstance(o, RunningGeneration)]


def test_clients_see_their_own_job_alone(client: TestClient, services: AppServices, together: Together) -> None:
    def ask(n: int) -> Any:
        body = {"prompt": f"number {n}", "steps": 4, "width": 64, "height": 64, "seed": n, "cfg_scale": n + 2}
        return client.post("/sdapi/v1/txt2img", json={**body, "force_task_id": f"task(shared-{n})"})

    with ThreadPoolExecutor() as pool:
        with together.held():
            replies = [pool.submit(ask, n) for n in range(3)]
            until(lambda: len(services.engine.pending()) == 3)
            places = [client.get(f"/latentd/v1/jobs/task(shared-{n})").json()["position"] for n in range(3)]
        answers = [reply.result(PATIENCE) for reply in replies]
    assert sorted(places) == [1, 2, 3]
    for n, answer in enumerate(answers):
        info = json.loads(answer.json()["info"])
        assert answer.headers["X-Latentd-Job"] == f"task(shared-{n})"
        assert (info["prompt"], info["all_seeds"], info["batch_size"]) == (f"number {n}", [n], 1)
        assert "Batch" not in info["infotexts"][0]
        with client.stream("GET", f"/latentd/v1/jobs/task(shared-{n})/events") as events:
            last = "".join(events.iter_text())
        assert "event: completed" in last
        assert f"task(shared-{n})" in last


# --- which jobs may share --------------------------------------------------------------------------------------------


def key(services: AppServices, **changes: Any) -> Any:
    return sharing_key(build_plan(replace(BASE, **changes), services), services)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a cat", "negative_prompt": "a dog", "seed": 3, "subseed": 4, "subseed_strength": 0.2},
        {"cfg_scale": 11.0, "batch_size": 4, "n_iter": 3, "save_images": True, "send_images": False},
        {"seed_resize_from_w": 128, "seed_resize_from_h": 128, "force_task_id": "mine"},
    ],
)
def test_what_each_job_may_choose(services: AppServices, changes: dict[str, Any]) -> None:
    assert key(services, **changes) == key(services) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 128},
        {"steps": 5},
        {"sampler_name": "Euler a"},
        {"scheduler": "karras"},
        {"eta": 0.5},
        {"s_churn": 1.0},
        {"s_noise": 1.1},
        {"s_min_uncond": 1.0},
        {"prompt": "<lora:tiny:1>"},
        {"override_settings": {"CLIP_stop_at_last_layers": 2}},
        {"override_settings": {"randn_source": "NV"}},
        {"mode": "img2img", "init_images": (Image.new("RGB", (64, 64)),)},
    ],
)
def test_what_jobs_must_agree_on(services: AppServices, changes: dict[str, Any]) -> None:
    other = key(services, **changes)
    assert other is not None
    assert other != key(services)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler_name": "DPM adaptive"},
        {"enable_hr": True, "denoising_strength": 0.5},
        {"tiling": True},
        {"refiner_checkpoint": "other", "refiner_switch_at": 0.5},
        {"disable_extra_networks": True},
        {"prompt": "<other:thing:1>"},
        {"prompt": ("one", "two <lora:tiny:1>")},
        {"override_settings": {"hypertile_enable_unet": True}},
        {"override_settings": {"batch_cond_uncond": False}},
        {"override_settings": {"randn_source": "NV"}, "override_settings_restore_afterwards": False},
    ],
)
def test_what_is_made_by_itself(services: AppServices, changes: dict[str, Any]) -> None:
    assert key(services, **changes) is None


def test_a_plugin_that_takes_part_in_sampling_has_the_model_to_itself(latentd_app: Any, tiny_data: Path) -> None:
    @hookimpl
    def before_step(generation: Any) -> None:
        pass

    client = latentd_app([SimpleNamespace(before_step=before_step)], ["--ckpt-dir", str(tiny_data / "models")])
    found = client.app.state.services
    assert sharing_key(build_plan(BASE, found), found) is None


def test_a_jobs_size_is_that_of_one_of_its_batches(services: AppServices) -> None:
    def size(**changes: Any) -> float:
        return sharing_size(build_plan(replace(BASE, **changes), services))

    assert size() == 1
    assert size(batch_size=3, n_iter=2) == 3
    assert size(width=1024, height=1024) == 4


def test_jobs_that_differ_wait_for_their_turn(together: Together) -> None:
    adaptive = replace(BASE, sampler_name="DPM adaptive")
    jobs = together(adaptive, adaptive, shared=False)
    for job in jobs:
        assert job.join(PATIENCE).images
    first, second = jobs
    assert first.finished <= second.started  # type: ignore[operator]
