"""A job that is divided: where its parts run, what the job shows meanwhile, and how it is stopped and fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from latentd.engine.executor import Engine
from latentd.engine.job import Job, JobCancelled
from latentd.engine.runner import LocalRunner
from latentd.errors import DeviceLost, Interrupted, InvalidRequest, OutOfMemory
from latentd.executors import Division, Part, PortableWork
from latentd.types import JobControl

WAIT = 20.0
STEPS = 4
MakeEngine = Callable[..., Engine]


class Halves:
    """Divided work whose parts go step by step under the test's hand; each part gives its number and its steps."""

    def __init__(self, *, most: int = 2, fail: int | None = None, error: Exception | None = None) -> None:
        self.arrived = [threading.Semaphore(0) for _ in range(most)]
        self.let = [threading.Semaphore(0) for _ in range(most)]
        self.threads: dict[int, str] = {}
        self.joined: list[str] = []
        self.told: list[str] = []
        self._fail, self._error = fail, error
        self._division: Division[list[object]] = Division(most=most, count=most, cut=self._cut, join=self._join)

    def work(self) -> PortableWork[list[object]]:
        return PortableWork(
            function=lambda services, control: ["whole"],
            services=None,  # type: ignore[arg-type]
            first=lambda control: self.told.append(f"first {control.id}"),
            last=lambda result: self.told.append(f"last {result}"),
            division=self._division,
        )

    def _cut(self, count: int) -> Sequence[Part]:
        return [Part(work=portable(self._part, number), share=1 / count) for number in range(count)]

    def _join(self, results: Sequence[object]) -> PortableWork[list[object]]:
        return portable(self._put_together, list(results))

    def _part(self, services: None, control: JobControl, number: int) -> object:
        self.threads[number] = threading.current_thread().name
        control.progress.job_count, control.progress.sampling_steps = 1, STEPS
        control.progress.stage = "sample"
        control.warn("every part says this")
        for step in range(STEPS):
            self.arrived[number].release()
            assert self.let[number].acquire(timeout=WAIT)
            if number == self._fail and self._error is not None:
                error, self._error = self._error, None
                raise error
            try:
                control.check()
            except Interrupted:
                if control.stop_requested() == "cancel":
                    raise
                return number, step
            control.progress.sampling_step = step + 1
            control.set_preview(Image.new("L", (1, 1), number))
        return number, STEPS

    def _put_together(self, services: None, control: JobControl, results: list[object]) -> list[object]:
        self.joined.append(threading.current_thread().name)
        return results

    def reached(self, *numbers: int) -> None:
        """Wait until these parts stand before their next step."""
        for number in numbers:
            assert self.arrived[number].acquire(timeout=WAIT), f"part {number} did not come here"

    def go(self, number: int, steps: int = 1) -> None:
        for _ in range(steps):
            self.let[number].release()
            self.reached(number)

    def finish(self, *numbers: int) -> None:
        for number in numbers or range(len(self.let)):
            self.let[number].release(100)


def portable(function: Callable[..., Any], *arguments: object) -> PortableWork[Any]:
    return PortableWork(function=function, arguments=arguments, services=None)  # type: ignore[arg-type]


def runners(*names: str) -> list[LocalRunner]:
    return [LocalRunner(name) for name in names]


@pytest.fixture
def heard() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def engine(make_engine: MakeEngine, heard: list[tuple[str, str]]) -> Engine:
    def observe(job_id: str, event: str, data: Mapping[str, Any]) -> None:
        heard.append((job_id, event))

    return make_engine(runners=runners("one", "two"), observer=observe)


@pytest.fixture
def halves() -> Iterator[Halves]:
    halves = Halves()
    yield halves
    halves.finish()


def submit(engine: Engine, halves: Halves, **fields: Any) -> Job[list[object]]:
    return engine.submit(halves.work(), kind="txt2img", **fields)


# --- where the parts run ---------------------------------------------------------------------------------------------


def test_the_parts_run_at_the_same_time_and_their_results_are_joined_in_order(
    engine: Engine, halves: Halves, heard: list[tuple[str, str]]
) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    assert set(halves.threads.values()) == {"latentd-one", "latentd-two"}
    halves.finish(1)
    halves.finish(0)
    assert job.join(WAIT) == [(0, STEPS), (1, STEPS)]
    assert halves.told == [f"first {job.id}", "last [(0, 4), (1, 4)]"]
    assert job.progress.warnings == ("every part says this",)
    events = [event for _, event in heard if event != "queued"]
    assert (events[0], events[-1]) == ("started", "completed")
    assert set(events[1:-1]) == {"progress"}, "what the parts do is told as the job's"
    assert {job_id for job_id, _ in heard} == {job.id}


def test_nobody_sees_the_parts(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    assert engine.current() is job
    assert engine.jobs() == [(job, 0)]
    assert engine.pending() == []
    assert [place.state for place in engine.places()] == ["busy", "busy"]
    halves.finish()
    job.join(WAIT)
    assert engine.finished() == [job.id]
    assert engine.get(job.id) is job
    until(lambda: [place.state for place in engine.places()] == ["idle", "idle"])


def test_only_places_that_no_job_waits_for_take_parts(engine: Engine, halves: Halves) -> None:
    engine.pause()
    job = submit(engine, halves)
    other = engine.submit(lambda control: "other", kind="txt2img")
    engine.resume()
    assert job.join(WAIT) == ["whole"]
    assert other.join(WAIT) == "other"


def test_a_job_for_one_place_is_not_divided(engine: Engine, halves: Halves) -> None:
    assert submit(engine, halves, device="two").join(WAIT) == ["whole"]


def test_one_place_divides_nothing(make_engine: MakeEngine, halves: Halves) -> None:
    assert submit(make_engine(), halves).join(WAIT) == ["whole"]


def test_there_are_no_more_parts_than_the_work_allows(make_engine: MakeEngine, halves: Halves) -> None:
    engine = make_engine(runners=runners("one", "two", "three"))
    job = submit(engine, halves)
    halves.finish()
    assert job.join(WAIT) == [(0, STEPS), (1, STEPS)]


def test_work_that_cannot_be_divided_is_done_whole(engine: Engine) -> None:
    def cut(count: int) -> Sequence[Part]:
        raise ValueError("not now")

    work = replace(Halves().work(), division=Division(most=2, count=1, cut=cut, join=lambda results: results))
    assert engine.submit(work, kind="txt2img").join(WAIT) == ["whole"]


def test_the_result_is_joined_before_jobs_that_wait(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    ended: list[str] = []
    job.add_done_callback(lambda job: ended.append("divided"))
    later = [engine.submit(lambda control: None, kind="txt2img") for _ in range(2)]
    for one in later:
        one.add_done_callback(lambda job: ended.append("later"))
    halves.finish(0)
    until(lambda: ended == ["later", "later"])
    halves.finish(1)
    job.join(WAIT)
    assert halves.joined == [halves.threads[1]], "the place of the last part has just become free"


# --- what the job shows ----------------------------------------------------------------------------------------------


def test_progress_is_that_of_all_parts_together(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    halves.go(0, 2)
    halves.go(1, 1)
    # The second part's check before its first step was the last to report: 2 of 8 steps were done.
    state = engine.state()
    assert state is job.progress
    assert (state.job_count, state.job_no, state.sampling_step, state.sampling_steps) == (2, 0, 2, STEPS)
    halves.go(0, 1)
    halves.go(1, 2)
    assert (state.job_no, state.sampling_step) == (1, 1), "5 of 8 steps: one batch of two, and a step of the other"
    halves.finish(0)
    until(lambda: (state.job_no, state.sampling_step) == (1, 3))
    assert state.stage == "sample", "one part samples still"
    halves.finish(1)
    job.join(WAIT)
    assert (state.job_no, state.job_count, state.stage) == (2, 0, "finish")


def test_previews_of_every_part_are_the_jobs(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    shown = []
    for number, steps in ((0, 2), (1, 2), (1, 1), (0, 1)):
        halves.go(number, steps)
        assert job.progress.preview is not None
        shown.append((job.progress.preview_id, job.progress.preview.getpixel((0, 0))))
    ids = [preview_id for preview_id, _ in shown]
    assert ids == sorted(set(ids)), "a new preview has a new number"
    assert [number for _, number in shown] == [0, 1, 1, 0]


def test_a_client_that_watches_the_job_watches_its_parts(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    assert not any(part.watched for part in job.parts)
    job.watch()
    assert [part.watched for part in job.parts] == [True, True]


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["all", "its own"])
def test_an_interrupt_reaches_every_part_and_what_they_have_is_joined(
    engine: Engine, halves: Halves, whose: str
) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    halves.go(0, 2)
    engine.interrupt() if whose == "all" else job.interrupt()
    halves.finish()
    assert job.join(WAIT) == [(0, 2), (1, 0)]
    assert job.progress.interrupted


def test_a_skip_reaches_every_part(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    halves.go(1)
    engine.skip()
    halves.finish()
    assert job.join(WAIT) == [(0, 0), (1, 1)]


def test_cancelling_ends_every_part(engine: Engine, halves: Halves, heard: list[tuple[str, str]]) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    engine.cancel(job.id)
    halves.finish()
    with pytest.raises(JobCancelled):
        job.join(WAIT)
    assert (job.status, halves.joined) == ("cancelled", [])
    assert heard[-1] == (job.id, "cancelled")


def test_a_server_that_ends_joins_what_there_is(make_engine: MakeEngine, halves: Halves) -> None:
    engine = make_engine(runners=runners("one", "two"))
    job = submit(engine, halves)
    halves.reached(0, 1)
    halves.go(0)
    threading.Timer(0.05, halves.finish).start()
    assert engine.close(timeout=WAIT)
    assert job.join(WAIT) == [(0, 1), (1, 0)]


# --- failing ---------------------------------------------------------------------------------------------------------


def test_a_part_that_fails_fails_the_job_and_stops_the_others(engine: Engine) -> None:
    halves = Halves(fail=1, error=InvalidRequest("not this one"))
    job = submit(engine, halves)
    halves.reached(0, 1)
    halves.let[1].release()
    until(lambda: job.parts[0].cancel_requested)
    assert not job.ended, "a part of it still runs"
    halves.finish()
    with pytest.raises(InvalidRequest, match="not this one"):
        job.join(WAIT)
    assert (job.status, halves.joined) == ("failed", [])
    until(lambda: [place.state for place in engine.places()] == ["idle", "idle"])


def test_a_part_for_which_memory_runs_out_is_tried_once_elsewhere(engine: Engine) -> None:
    halves = Halves(fail=0, error=OutOfMemory("too small"))
    job = submit(engine, halves)
    halves.reached(0, 1)
    first = halves.threads[0]
    halves.finish()
    assert job.join(WAIT) == [(0, STEPS), (1, STEPS)]
    assert halves.threads[0] != first


def test_a_part_that_no_place_is_left_for_fails_the_job(engine: Engine, halves: Halves) -> None:
    job = submit(engine, halves)
    halves.reached(0, 1)
    for name in ("one", "two"):
        engine.remove_runner(name)
    halves.finish()
    with pytest.raises(DeviceLost):
        job.join(WAIT)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)
