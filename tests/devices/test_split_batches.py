"""Jobs that are divided among devices (``--split-batches``): everything about them is as one device makes it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tests.devices.conftest import Serve, draw, pixels, request
from tests.e2e.calls import difference

from latentd.api import hookimpl
from latentd.engine.job import JobCancelled
from latentd.errors import DeviceLost
from latentd.generations import Plan
from latentd.models.modules.unet import UNetRunner
from latentd.pipeline.planning.build import build_plan
from latentd.pipeline.splitting import can_cut, can_split, cut, most_parts
from latentd.server import work
from latentd.server.services import AppServices
from latentd.server.split_batches import division_of
from latentd.types import JobControl, Result

PATIENCE = 120.0
STEPS = 3
FLAGS = ("--devices", "cpu:0,cpu:1", "--split-batches")


@pytest.fixture(scope="module")
def threads(serve: Serve) -> AppServices:
    return serve(*FLAGS)


@pytest.fixture(scope="module")
def processes(serve: Serve) -> AppServices:
    return serve(*FLAGS, "--worker-processes")


@pytest.fixture(scope="module", params=["threads", "processes"])
def server(request: pytest.FixtureRequest) -> AppServices:
    made: AppServices = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def parts_made(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """How many parts the jobs of this test were done in, those done whole left out."""
    caplog.set_level("INFO", logger="latentd.engine.parts")

    def count() -> int:
        found = [record.args for record in caplog.records if "is done in" in record.msg]
        return sum(int(args[1]) for args in found if isinstance(args, tuple))

    return count


def init(angle: int = 0) -> Image.Image:
    drawn = Image.new("RGB", (64, 64), (200, 60, 20))
    drawn.paste((10, 90, 200), (8, 8, 40, 24))
    return drawn.rotate(angle)


def mask() -> Image.Image:
    drawn = Image.new("L", (64, 64))
    drawn.paste(255, (16, 16, 48, 48))
    return drawn


def saved(services: AppServices) -> dict[str, Any]:
    """Every file in the output folders, with its text; and ``params.txt``."""
    found: dict[str, Any] = {"params.txt": (services.paths.data / "params.txt").read_text()}
    for path in sorted((services.paths.data / "output").rglob("*.*")):
        with Image.open(path) as image:
            found[str(path.relative_to(services.paths.data))] = dict(image.info)
    return found


def answer(result: Result) -> tuple[object, ...]:
    """All of it but pixels and the time."""
    info = json.dumps({**result.info, "job_timestamp": ""})
    return info, [(image.infotext, image.info, image.seed, image.role) for image in result.images], result.interrupted


def pictures(result: Result) -> list[Image.Image]:
    return [picture.image for picture in result.images]


INITS = {"save_init_img": True}
COMPOSITE = {"return_mask_composite": True}
IMG2IMG = {"mode": "img2img", "init_images": (init(),), "denoising_strength": 0.6}


@pytest.mark.parametrize(
    "fields",
    [
        {"n_iter": 3, "sampler_name": "Euler a"},
        {"batch_size": 2, "n_iter": 2, "subseed_strength": 0.3, "sampler_name": "DPM++ SDE"},
        {"batch_size": 5},
        {"batch_size": 3, "prompt": ["a cat", "a <lora:lines:0.8> dog", "x " * 90, "four"], "n_iter": 2},
        {"n_iter": 2, "enable_hr": True, "hr_upscaler": "Lanczos", "denoising_strength": 0.6},
        {"batch_size": 2, "refiner_checkpoint": "other", "refiner_switch_at": 0.5},
        {"n_iter": 2, "prompt": "a (red:1.3) <lora:lines:0.8> circle", "override_settings": {"emphasis": "No norm"}},
        {"n_iter": 2, "tiling": True, "override_settings": {"return_mask": True, "eta_noise_seed_delta": 5}},
        {**IMG2IMG, "batch_size": 2},
        {**IMG2IMG, "n_iter": 2, "batch_size": 2, "mask": mask(), "inpainting_fill": 2, "override_settings": COMPOSITE},
        {**IMG2IMG, "batch_size": 3, "mask": mask()},
        {**IMG2IMG, "n_iter": 2, "batch_size": 2, "init_images": (init(), init(90)), "override_settings": INITS},
    ],
    ids=[
        *("batches", "variations", "one batch", "own prompts", "hires", "refiner", "lora", "tiling"),
        *("img2img", "latent noise", "masked batch", "several inits"),
    ],
)
def test_pictures_texts_and_files_are_the_lone_servers(
    lone: AppServices, server: AppServices, parts_made: Callable[[], int], fields: dict[str, Any]
) -> None:
    fields = {"save_images": True, "subseed": 11, **fields}
    for services in (lone, server):
        shutil.rmtree(services.paths.data / "output", ignore_errors=True)
    expected, found = draw(lone, **fields), draw(server, **fields)
    assert parts_made() == 2
    assert answer(found) == answer(expected)
    assert saved(server) == saved(lone)
    # Where a batch is cut, products of smaller matrices are rounded in another way.
    rounding = 1 if fields.get("n_iter", 1) == 1 else 0
    assert max(map(difference, pictures(found), pictures(expected))) <= rounding


def test_overrides_that_are_to_stay_are_set(server: AppServices, parts_made: Callable[[], int]) -> None:
    stays = {"override_settings": {"s_churn": 0.25}, "override_settings_restore_afterwards": False}
    draw(server, n_iter=2, **stays)
    assert (parts_made(), server.options["s_churn"]) == (2, 0.25)
    server.options.update({"s_churn": 0.0})


def test_what_parts_warn_of_is_in_the_answer(lone: AppServices, server: AppServices) -> None:
    fields = {"n_iter": 3, "prompt": ["one", "two <lora:nowhere:1>", "three <lora:lost:1>"], "batch_size": 1}
    expected, found = draw(lone, **fields), draw(server, **fields)
    assert found.info["warnings"] == expected.info["warnings"]


# --- stopping --------------------------------------------------------------------------------------------------------


class Held:
    """Holds every worker before its ``last``-th evaluation of a UNet."""

    def __init__(self, last: int, workers: int) -> None:
        self._last = last
        self._calls = threading.local()
        self._let = threading.Event()
        self._all = threading.Barrier(1 + workers, timeout=PATIENCE)

    def pass_through(self) -> None:
        self._calls.made = getattr(self._calls, "made", 0) + 1
        if self._calls.made == self._last and not self._let.is_set():
            self._all.wait()
            assert self._let.wait(PATIENCE)

    def reached(self) -> None:
        """Wait until all workers stand there."""
        self._all.wait()

    def go(self) -> None:
        self._let.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Two workers that stop in the middle of their second batch."""
    held = Held(STEPS + 2, 2)
    evaluate = UNetRunner.evaluate

    def stopping(self: UNetRunner, call: Any, hooks: Any = ()) -> Any:
        held.pass_through()
        return evaluate(self, call, hooks)

    monkeypatch.setattr(UNetRunner, "evaluate", stopping)
    yield held
    held.go()


def test_an_interrupt_ends_every_part_and_the_answer_has_what_there_is(
    lone: AppServices, threads: AppServices, held: Held
) -> None:
    fields = {"n_iter": 6, "subseed": 1, "save_images": True, "override_settings": {"return_grid": False}}
    job = asyncio.run(threads.submit(request(**fields)))
    held.reached()
    threads.engine.interrupt()
    held.go()
    result = job.join(PATIENCE)
    assert (result.interrupted, [picture.seed for picture in result.images]) == (True, [7, 8, 10, 11])
    expected = pixels(draw(lone, **{**fields, "save_images": False}))
    found = pixels(result)
    whole = [found[0] == expected[0], found[1] == expected[1], found[2] == expected[3], found[3] == expected[4]]
    assert whole == [True, False, True, False], "the first batch of each part was complete"
    assert result.info["infotexts"] == [picture.infotext for picture in result.images]
    seeds = [Path(str(picture.path)).stem.partition("-")[2] for picture in result.images if picture.path]
    assert seeds == ["7", "10"], "what was cut short is not saved"


def test_cancelling_frees_every_device(threads: AppServices, held: Held) -> None:
    job = asyncio.run(threads.submit(request(n_iter=4)))
    held.reached()
    threads.engine.cancel(job.id)
    held.go()
    with pytest.raises(JobCancelled):
        job.join(PATIENCE)
    until(lambda: [place.state for place in threads.engine.places()] == ["idle", "idle"])
    assert len(draw(threads, n_iter=2).images) == 2


def test_a_process_that_is_killed_costs_the_job_alone(processes: AppServices) -> None:
    services = processes
    pids = [
        services.engine.submit(services.portable(say_pid), kind="load", quiet=True, device=name).join(PATIENCE)
        for name in ("cpu:0", "cpu:1")
    ]
    job = asyncio.run(services.submit(request(n_iter=2, steps=150)))
    until(lambda: job.progress.sampling_step > 3)
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(DeviceLost, match="signal 9"):
        job.join(PATIENCE)
    until(lambda: [place.state for place in services.engine.places()] == ["idle", "idle"])
    assert len(draw(services, n_iter=2).images) == 2


def say_pid(services: Any, control: JobControl) -> int:
    return os.getpid()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- what is divided -------------------------------------------------------------------------------------------------


def plan_of(services: AppServices, **fields: Any) -> Plan:
    return build_plan(request(**{"n_iter": 2, **fields}), services)


@pytest.mark.parametrize(
    "fields",
    [
        {"n_iter": 1},
        {"disable_extra_networks": True},
        {"prompt": "a <other:thing:1>"},
        {"override_settings": {"hypertile_enable_unet": True}},
        {"override_settings": {"hypertile_enable_vae": True}},
        {"enable_hr": True, "save_images": True, "override_settings": {"save_images_before_highres_fix": True}},
    ],
)
def test_what_one_worker_draws(threads: AppServices, fields: dict[str, Any]) -> None:
    assert not can_split(plan_of(threads, **fields), threads)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["a", "b"]},
        {"sampler_name": "DPM adaptive"},
        {"override_settings": {"step_cache_threshold": 0.1}},
        {**IMG2IMG, "mask": mask(), "inpainting_fill": 2},
        {**IMG2IMG, "init_images": (init(), init(90))},
    ],
)
def test_what_is_divided_between_batches_alone(threads: AppServices, fields: dict[str, Any]) -> None:
    plan = plan_of(threads, **{"batch_size": 2, **fields})
    assert can_split(plan, threads)
    assert not can_cut(plan)
    assert most_parts(plan) == len(plan.prompts) // 2 or not divides(threads, **{"batch_size": 2, **fields})


def divides(services: AppServices, **fields: Any) -> bool:
    """Whether ``services`` would let several workers draw the request."""
    plan = plan_of(services, **fields)
    return division_of(plan, services, services.portable(work.draw, plan)) is not None


def test_a_plugin_that_sees_the_generation_sees_all_of_it(threads: AppServices, serve: Serve) -> None:
    @hookimpl
    def postprocess_image(generation: Any, image: Image.Image, index: int) -> None:
        pass

    services = serve("--split-batches", plugins=[("sees", SimpleNamespace(postprocess_image=postprocess_image))])
    assert divides(threads)
    assert not divides(services)


def test_nothing_is_divided_unless_that_is_asked_for(lone: AppServices) -> None:
    assert not divides(lone)


@pytest.mark.parametrize(
    ("fields", "count", "pictures"),
    [
        ({"n_iter": 5}, 2, [[(0, 0, 1), (1, 0, 1)], [(2, 0, 1), (3, 0, 1), (4, 0, 1)]]),
        ({"n_iter": 1, "batch_size": 5}, 2, [[(0, 0, 2)], [(0, 2, 5)]]),
        ({"n_iter": 2, "batch_size": 3}, 2, [[(0, 0, 3)], [(1, 0, 3)]]),
        ({"n_iter": 2, "batch_size": 3}, 3, [[(0, 0, 2)], [(0, 2, 3), (1, 0, 1)], [(1, 1, 3)]]),
        ({"n_iter": 3, "batch_size": 2, "prompt": ["a"] * 3}, 2, [[(0, 0, 2)], [(1, 0, 1)]]),
    ],
)
def test_how_pictures_are_divided(
    threads: AppServices, fields: dict[str, Any], count: int, pictures: list[list[tuple[int, int, int]]]
) -> None:
    parts = cut(plan_of(threads, **fields), count)
    assert [[(c.index, c.first, c.stop) for c in part] for part in parts] == pictures
