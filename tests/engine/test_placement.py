"""Which device gets which job, and what happens when a device fails."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from latentd.engine.executor import Engine
from latentd.engine.job import Job
from latentd.engine.placement import STRIKES
from latentd.engine.runner import LocalRunner
from latentd.errors import DeviceLost, NotConfigured, OutOfMemory

WAIT = 60.0
MakeEngine = Callable[..., Engine]


def device_of(job: Job[str | None]) -> str | None:
    return job.device


def runners(*names: str) -> list[LocalRunner]:
    return [LocalRunner(name) for name in names]


@pytest.fixture
def pair(make_engine: MakeEngine) -> Engine:
    """Two devices; ``one`` has model a loaded and ``two`` has b."""
    engine = make_engine(runners=runners("one", "two"))
    for name, model in (("one", "a"), ("two", "b")):
        engine.submit(device_of, kind="txt2img", model_key=model, device=name).join(WAIT)
    return engine


class Held:
    """Keeps devices busy until it is opened."""

    def __init__(self, engine: Engine, *names: str) -> None:
        self._gate = threading.Event()
        entered = [threading.Event() for _ in names]
        for name, event in zip(names, entered, strict=True):
            engine.submit(lambda job, event=event: event.set() or self._gate.wait(WAIT), kind="load", device=name)  # type: ignore[misc]
        for event in entered:
            assert event.wait(WAIT)

    def open(self) -> None:
        self._gate.set()


# --- where a job goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_job_goes_where_its_model_is_loaded(pair: Engine, order: str) -> None:
    for _ in range(10):
        found = {m: pair.submit(device_of, kind="txt2img", model_key=m).join(WAIT) for m in order}
        assert found == {"a": "one", "b": "two"}


def test_a_device_that_is_not_free_is_not_waited_for(pair: Engine) -> None:
    held = Held(pair, "one")
    assert pair.submit(device_of, kind="txt2img", model_key="a").join(WAIT) == "two"
    held.open()


def test_a_new_model_goes_to_a_device_that_has_none(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two", "three"))
    used = {engine.submit(device_of, kind="txt2img", model_key=m).join(WAIT) for m in "abc"}
    assert used == {"one", "two", "three"}


def test_each_device_takes_its_own_models_jobs_first(pair: Engine) -> None:
    def slow(job: Job[str | None]) -> str | None:
        time.sleep(0.2)
        return job.device

    held = Held(pair, "one", "two")
    jobs = [pair.submit(slow, kind="txt2img", model_key=model) for model in "bbbaaa"]
    held.open()
    found = Counter((job.model_key, job.join(WAIT)) for job in jobs)
    assert found["a", "one"] >= 2, "one worked on others' models though its own waited"


def test_a_device_that_keeps_several_models_counts_them_all(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two"), models_kept=lambda: 2)
    for name, model in (("one", "a"), ("one", "b"), ("two", "c")):
        engine.submit(device_of, kind="txt2img", model_key=model, device=name).join(WAIT)
    assert [engine.submit(device_of, kind="txt2img", model_key=m).join(WAIT) for m in "abca"] == [
        *("one", "one", "two", "one")
    ]
    assert {place.name: set(place.loaded) for place in engine.places()} == {"one": {"a", "b"}, "two": {"c"}}


def test_no_job_is_left_behind_and_none_is_overtaken_too_often(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners(*"1234"), max_overtakes=4)
    draw = random.Random(7)
    jobs = [
        engine.submit(
            device_of, kind="txt2img", model_key=draw.choice("abcdefg"), device=draw.choice([None] * 9 + ["3"])
        )
        for _ in range(400)
    ]
    for job in jobs:
        job.join(WAIT)
    assert max(job.overtaken for job in jobs) <= 4
    assert {job.device for job in jobs} == set("1234")


# --- a device that fails ---------------------------------------------------------------------------------------------


class Broken:
    """Work that fails on one device and is done on every other; counts its tries by device."""

    def __init__(self, device: str, error: Callable[[], BaseException]) -> None:
        self.device = device
        self.error = error
        self.tries: Counter[str | None] = Counter()
        self.failed = threading.Event()

    def __call__(self, job: Job[str | None]) -> str | None:
        self.tries[job.device] += 1
        if job.device == self.device:
            self.failed.set()
            raise self.error()
        return job.device


def cuda_error() -> BaseException:
    return RuntimeError("CUDA error: an illegal memory access was encountered")


def lost() -> None:
    raise RuntimeError("CUDA error: device-side assert triggered")


def drained(engine: Engine) -> dict[str, str | None]:
    return {place.name: place.trouble for place in engine.places() if place.state == "drained"}


def test_a_job_without_memory_is_tried_once_elsewhere(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two"))
    held = Held(engine, "two")
    work = Broken("one", OutOfMemory)
    job = engine.submit(work, kind="txt2img")
    job.warn("kept")
    assert work.failed.wait(WAIT)
    held.open()
    assert job.join(WAIT) == "two"
    assert work.tries == {"one": 1, "two": 1}
    assert job.progress.warnings == ("kept",)
    assert not drained(engine), "one failure is no reason to do without a device"


def test_a_job_that_fails_everywhere_is_tried_twice_and_blames_no_device(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two", "three"))
    tries = []

    def greedy(job: Job[None]) -> None:
        tries.append(job.device)
        raise OutOfMemory

    for _ in range(2 * STRIKES):
        with pytest.raises(OutOfMemory):
            engine.submit(greedy, kind="txt2img").join(WAIT)
    assert len(tries) == 4 * STRIKES
    assert not drained(engine), "requests that are too large must not take a device away"


def test_a_device_that_fails_repeatedly_is_drained(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two"))
    work = Broken("one", OutOfMemory)
    for _ in range(STRIKES):
        held = Held(engine, "two")
        work.failed.clear()
        job = engine.submit(work, kind="txt2img")
        assert work.failed.wait(WAIT)
        held.open()
        assert job.join(WAIT) == "two"
    assert work.tries["one"] == STRIKES
    assert list(drained(engine)) == ["one"]
    assert [engine.submit(work, kind="txt2img").join(WAIT) for _ in range(3)] == ["two"] * 3
    assert work.tries["one"] == STRIKES


def test_a_success_between_failures_keeps_the_device(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two"))
    work = Broken("one", OutOfMemory)
    for _ in range(2 * STRIKES):
        held = Held(engine, "two")
        work.failed.clear()
        job = engine.submit(work, kind="txt2img")
        assert work.failed.wait(WAIT)
        held.open()
        job.join(WAIT)
        engine.submit(device_of, kind="txt2img", device="one").join(WAIT)
    assert not drained(engine)


def test_a_lost_device_is_drained_at_once_and_its_job_done_elsewhere(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=[LocalRunner("one", probe=lost), LocalRunner("two")])
    held = Held(engine, "two")
    work = Broken("one", cuda_error)
    jobs = [engine.submit(work, kind="txt2img") for _ in range(5)]
    assert work.failed.wait(WAIT)
    held.open()
    assert [job.join(WAIT) for job in jobs] == ["two"] * 5
    assert work.tries["one"] == 1
    assert "illegal memory access" in (drained(engine)["one"] or "")


def test_a_driver_error_that_leaves_the_device_alive_drains_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=[LocalRunner("one", probe=lambda: None)])
    with pytest.raises(RuntimeError, match="CUDA error"):
        engine.submit(Broken("one", cuda_error), kind="txt2img").join(WAIT)
    assert not drained(engine)
    assert engine.submit(device_of, kind="txt2img").join(WAIT) == "one"


def test_without_a_device_left_waiting_jobs_fail_and_new_ones_are_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=[LocalRunner("one", probe=lost)])
    held = Held(engine, "one")
    first, second = (engine.submit(Broken("one", cuda_error), kind="txt2img") for _ in range(2))
    held.open()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        first.join(WAIT)
    with pytest.raises(DeviceLost, match="one: RuntimeError"):
        second.join(WAIT)
    with pytest.raises(DeviceLost):
        engine.submit(device_of, kind="txt2img")


def test_a_device_that_does_not_exist_is_drained_and_its_first_job_done_elsewhere(make_engine: MakeEngine) -> None:
    def missing() -> None:
        raise NotConfigured("this machine has no such device")

    engine = make_engine(runners=[LocalRunner("one", prepare=missing), LocalRunner("two")])
    assert [engine.submit(device_of, kind="txt2img").join(WAIT) for _ in range(4)] == ["two"] * 4
    with pytest.raises(DeviceLost):
        engine.submit(device_of, kind="txt2img", device="one").join(WAIT)
    assert "no such device" in (drained(engine)["one"] or "")


def test_a_cancelled_job_is_not_tried_again(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one", "two"))
    tries = []

    def work(job: Job[None]) -> None:
        tries.append(job.device)
        engine.cancel(job.id)
        raise OutOfMemory

    job = engine.submit(work, kind="txt2img")
    job.add_done_callback(lambda job: None)
    with pytest.raises(Exception, match="cancelled"):
        job.join(WAIT)
    assert len(tries) == 1


# --- devices come and go ---------------------------------------------------------------------------------------------


def test_a_device_may_be_added_and_removed_while_jobs_run(make_engine: MakeEngine) -> None:
    engine = make_engine(runners=runners("one"))
    engine.submit(device_of, kind="txt2img").join(WAIT)
    engine.add_runner(LocalRunner("two"))
    assert engine.submit(device_of, kind="txt2img", device="two").join(WAIT) == "two"
    held = Held(engine, "one")
    waiting = engine.submit(device_of, kind="txt2img", device="one")
    engine.remove_runner("one")
    with pytest.raises(DeviceLost):
        waiting.join(WAIT)
    held.open()
    assert [place.name for place in engine.places()] == ["two"]
    assert engine.submit(device_of, kind="txt2img").join(WAIT) == "two"
