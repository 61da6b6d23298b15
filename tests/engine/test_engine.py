"""Submitting, waiting, failing, keeping and forgetting; on real threads and real event loops."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from latentd.engine.executor import Engine, ShuttingDown
from latentd.engine.job import Job
from latentd.engine.runner import LocalRunner, collecting_later
from latentd.errors import Conflict, Gone, InvalidRequest, NotFound, OutOfMemory, PluginError, QueueFull
from latentd.types import ProgressState

WAIT = 60.0


def test_ids_have_a1111s_form(engine: Engine) -> None:
    job = engine.submit(lambda job: 1, kind="txt2img")
    assert re.fullmatch(r"task\(txt2img-[A-Z0-9]{7}\)", job.id)
    assert engine.submit(lambda job: 1, kind="txt2img", task_id="task(golden)").id == "task(golden)"
    assert engine.submit(lambda job: 1, kind="txt2img", task_id="").id != ""


@pytest.mark.parametrize("task_id", ["a\nb", "\ud800", "\u202ea", "x" * 129])
def test_ids_that_fit_on_no_line_are_refused(engine: Engine, task_id: str) -> None:
    with pytest.raises(InvalidRequest):
        engine.submit(lambda job: 1, kind="txt2img", task_id=task_id)


def test_an_id_in_use_is_a_conflict_and_free_again_afterwards(engine: Engine, sampling: Any) -> None:
    work = sampling()
    job = engine.submit(work, kind="txt2img", task_id="mine")
    with pytest.raises(Conflict):
        engine.submit(lambda job: 1, kind="txt2img", task_id="mine")
    work.finish()
    job.join(WAIT)
    again = engine.submit(lambda job: 2, kind="txt2img", task_id="mine")
    assert again.join(WAIT) == 2
    assert engine.get("mine") is again


def test_waiters_hold_no_thread(engine: Engine, sampling: Any) -> None:
    async def main() -> tuple[list[Any], int]:
        work = sampling()
        jobs: list[Job[Any]] = [engine.submit(work, kind="txt2img")]
        jobs += [engine.submit(lambda job, n=n: n, kind="txt2img") for n in range(200)]
        waiting = asyncio.gather(*(job.wait() for job in jobs))
        await asyncio.sleep(0)
        threads = threading.active_count()
        work.finish()
        return await waiting, threads

    before = threading.active_count()
    results, threads = asyncio.run(main())
    assert results == [[4], *range(200)]
    assert threads <= before + 1, "one worker, and nobody else"


def test_a_waiter_that_gives_up_leaves_the_job_alone(engine: Engine, sampling: Any) -> None:
    async def main() -> Any:
        work = sampling()
        job = engine.submit(work, kind="txt2img")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.01)
        work.finish()
        return await job.wait()

    assert asyncio.run(main()) == [4]


def test_a_waiter_whose_loop_is_gone_harms_nobody(engine: Engine, sampling: Any) -> None:
    work = sampling()
    job = engine.submit(work, kind="txt2img")
    loop = asyncio.new_event_loop()
    task = loop.create_task(job.wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.stop()
    loop.run_forever()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    work.finish()
    assert job.join(WAIT) == [4]
    assert engine.submit(lambda job: "next", kind="txt2img").join(WAIT) == "next"


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), NotFound("no such model")])
def test_whatever_a_job_raises_fails_that_job_and_no_other(
    engine: Engine, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def work(job: Job[None]) -> None:
        raise error

    job = engine.submit(work, kind="txt2img")
    with pytest.raises(type(error)) as caught:
        job.join(WAIT)
    assert str(caught.value) == str(error)
    assert job.status == "failed"
    told = [record.getMessage() for record in caplog.records if job.id in record.getMessage()]
    assert any(("no such model" if isinstance(error, NotFound) else "in work") in line for line in told)
    assert engine.submit(lambda job: "next", kind="txt2img").join(WAIT) == "next"


class Tensor:
    """Something large that a job must not leave behind."""


def test_a_failed_job_keeps_nothing_it_worked_with(engine: Engine) -> None:
    born: list[weakref.ref[Tensor]] = []

    def work(job: Job[None]) -> None:
        latents = Tensor()
        born.append(weakref.ref(latents))
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    job = engine.submit(work, kind="txt2img")
    for _ in range(3):
        with pytest.raises(ValueError, match="outer"):
            job.join(WAIT)
    gc.collect()
    assert born[0]() is None
    assert job.error is not None
    assert job.error.__traceback__ is None


def test_a_finished_job_keeps_its_result_and_not_its_work(engine: Engine) -> None:
    captured = Tensor()
    gone = weakref.ref(captured)

    def submit(captured: Tensor) -> Job[int]:
        return engine.submit(lambda job: id(captured), kind="txt2img")

    job = submit(captured)
    job.join(WAIT)
    del captured
    engine.submit(lambda job: None, kind="txt2img").join(WAIT)
    gc.collect()
    assert gone() is None


def test_500_jobs_leave_the_number_of_objects_flat(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(max_ended=20, result_bytes=1000)

    def counted(jobs: int) -> int:
        for _ in range(jobs):
            engine.submit(lambda job: b"x" * 100, kind="flat").join(WAIT)
        # The worker puts a job among the kept ones just after it wakes those who wait for it.
        until = time.monotonic() + WAIT
        while (count := alive()) != 20 and time.monotonic() < until:
            time.sleep(0.01)
        return count

    def alive() -> int:
        gc.collect()
        return sum(isinstance(thing, Job) and thing.kind == "flat" for thing in gc.get_objects())

    assert (counted(100), counted(400)) == (20, 20)


@pytest.mark.parametrize("fails", [False, True])
def test_of_an_ended_job_nothing_is_left_but_what_its_document_tells(
    make_engine: Callable[..., Engine], fails: bool
) -> None:
    """A thousand ended jobs are remembered: whatever hangs on one is there a thousand times."""
    engine = make_engine(max_ended=1000)

    def work(job: Job[None]) -> None:
        job.check()
        if fails:
            raise NotFound("no such model")

    def held(jobs: int) -> Counter[type]:
        for _ in range(jobs):
            with suppress(NotFound):
                asyncio.run(engine.submit(work, kind="kept", meta={"width": 64}).wait())
        # The worker is done with a job just after it wakes those who wait for it.
        engine.submit(lambda job: None, kind="last").join(WAIT)
        gc.collect()
        return Counter(type(thing) for thing in gc.get_objects())

    held(20)
    grown = held(100)
    grown = held(100) - grown
    error = [NotFound] if fails else []
    assert {kind for kind, count in grown.items() if count >= 50} == {Job, ProgressState, *error}
    assert max(grown.values()) <= 102


def test_a_full_queue_is_429_with_a_time(make_engine: Callable[..., Engine], sampling: Any) -> None:
    engine = make_engine(queue_limit=2)
    work = sampling()
    engine.submit(work, kind="txt2img")
    work.reached()
    engine.submit(lambda job: 1, kind="txt2img")
    engine.submit(lambda job: 1, kind="txt2img")
    with pytest.raises(QueueFull) as caught:
        engine.submit(lambda job: 1, kind="txt2img")
    assert caught.value.retry_after >= 1
    work.finish()


def test_results_expire_by_size_oldest_first(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(result_bytes=250)
    jobs = [engine.submit(lambda job: b"x" * 100, kind="txt2img") for _ in range(3)]
    jobs[-1].join(WAIT)
    engine.submit(lambda job: None, kind="txt2img").join(WAIT)
    with pytest.raises(Gone):
        jobs[0].outcome()
    assert jobs[1].outcome() == jobs[2].outcome() == b"x" * 100
    assert engine.get(jobs[0].id).expired


def test_results_expire_by_time_without_anybody_asking(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(result_ttl=0.05)
    kept = Tensor()
    gone = weakref.ref(kept)
    job = engine.submit(lambda job, kept=[kept]: kept.pop(), kind="txt2img")
    job.join(WAIT)
    del kept
    until = time.monotonic() + WAIT
    while gone() is not None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(Gone):
        job.outcome()


def test_a_result_larger_than_the_cap_still_reaches_its_waiter(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(result_bytes=10)

    async def main() -> bytes:
        return await engine.submit(lambda job: b"x" * 100, kind="txt2img").wait()

    assert len(asyncio.run(main())) == 100


@pytest.mark.parametrize("settings", [{"result_ttl": 0}, {"result_bytes": 10}])
def test_a_result_that_expires_before_its_waiter_comes_still_reaches_it(
    make_engine: Callable[..., Engine], settings: dict[str, Any]
) -> None:
    engine = make_engine(**settings)
    job = engine.submit(lambda job: b"x" * 100, kind="txt2img", awaited=True)
    engine.submit(lambda job: None, kind="txt2img").join(WAIT)
    with pytest.raises(Gone):
        job.outcome()
    assert asyncio.run(job.wait()) == b"x" * 100
    assert job.result is None
    with pytest.raises(Gone):
        asyncio.run(job.wait())


def test_the_last_16_finished_ids_are_remembered(engine: Engine) -> None:
    jobs = [engine.submit(lambda job: None, kind="txt2img") for _ in range(20)]
    jobs[-1].join(WAIT)
    assert engine.finished() == [job.id for job in jobs[-16:]]


def test_forgotten_jobs_are_not_found(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(max_ended=2)
    jobs = [engine.submit(lambda job: None, kind="txt2img") for _ in range(4)]
    jobs[-1].join(WAIT)
    engine.submit(lambda job: None, kind="txt2img").join(WAIT)
    with pytest.raises(NotFound):
        engine.get(jobs[0].id)


def test_closing_cancels_who_waits_and_interrupts_who_runs(engine: Engine, sampling: Any) -> None:
    work = sampling()
    running = engine.submit(work, kind="txt2img")
    work.reached()
    waiting = engine.submit(sampling(), kind="txt2img")
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(ShuttingDown):
        waiting.join(WAIT)
    work.finish()
    closing.join(WAIT)
    assert not closing.is_alive()
    assert running.outcome() == [0]
    assert running.progress.interrupted
    with pytest.raises(ShuttingDown):
        engine.submit(lambda job: 1, kind="txt2img")


def test_preparation_comes_once_before_the_first_job_and_cleaning_after_each(
    make_engine: Callable[..., Engine],
) -> None:
    order: list[str] = []
    engine = make_engine(
        runners=[LocalRunner(prepare=lambda: order.append("prepare"), cleanup=lambda: order.append("cleanup"))]
    )
    for name in ("one", "two"):
        engine.submit(lambda job, name=name: order.append(name), kind="txt2img").join(WAIT)
    engine.submit(lambda job: None, kind="txt2img").join(WAIT)
    gc.unfreeze()
    assert order[:5] == ["prepare", "one", "cleanup", "two", "cleanup"]


def test_a_broken_preparation_or_cleaning_stops_nothing(make_engine: Callable[..., Engine]) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    engine = make_engine(runners=[LocalRunner(prepare=broken, cleanup=broken)])
    assert [engine.submit(lambda job, n=n: n, kind="txt2img").join(WAIT) for n in range(3)] == [0, 1, 2]
    gc.unfreeze()


def test_two_devices_work_at_the_same_time(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(runners=[LocalRunner("one"), LocalRunner("two")])
    both = threading.Barrier(2, timeout=WAIT)

    def work(job: Job[str | None]) -> str | None:
        both.wait()
        return job.device

    jobs = [engine.submit(work, kind="txt2img") for _ in range(2)]
    assert {job.join(WAIT) for job in jobs} == {"one", "two"}


# --- warnings --------------------------------------------------------------------------------------------------------


def test_a_warning_is_logged_once_on_one_line_and_kept_for_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    job: Job[None] = Job(lambda control: None, id="task-1", kind="txt2img")
    for _ in range(2):
        job.warn("a name\nERROR forged \x1b[2J")
    assert job.progress.warnings == ("a name ERROR forged  [2J",)
    assert [record.getMessage() for record in caplog.records] == ["task-1: a name ERROR forged  [2J"]


def test_a_job_keeps_a_bounded_number_of_bounded_warnings() -> None:
    job: Job[None] = Job(lambda control: None, id="task-1", kind="txt2img")
    for number in range(1000):
        job.warn(f"{number} " * 5000)
    assert len(job.progress.warnings) < 100
    assert max(map(len, job.progress.warnings)) <= 1000


def _no_memory(job: Job[Any]) -> Any:
    import torch

    return torch.empty(2**50)


def _no_memory_in_a_plugin(job: Job[Any]) -> Any:
    try:
        raise MemoryError
    except MemoryError as error:
        raise PluginError("mine", "after_step", error) from error


@pytest.mark.parametrize("work", [_no_memory, _no_memory_in_a_plugin])
def test_a_job_without_memory_fails_alone(engine: Engine, work: Callable[[Job[Any]], Any]) -> None:
    with pytest.raises(OutOfMemory, match="out of memory: ") as caught:
        engine.submit(work, kind="txt2img").join(WAIT)
    assert caught.value.status == 413
    assert engine.submit(lambda job: 1, kind="txt2img").join(WAIT) == 1


def test_a_paused_queue_starts_nothing_and_lets_the_running_job_go_on(engine: Engine, sampling: Any) -> None:
    work = sampling()
    running = engine.submit(work, kind="txt2img")
    work.reached()
    engine.pause()
    waiting = engine.submit(lambda job: 1, kind="txt2img")
    work.finish()
    assert (running.join(WAIT), engine.paused) == ([4], True)
    with pytest.raises(TimeoutError):
        waiting.join(0.2)
    assert (waiting.status, waiting.position) == ("queued", 1)
    engine.resume()
    assert (waiting.join(WAIT), engine.paused) == (1, False)


def test_waiting_jobs_are_moved_and_no_others(engine: Engine, sampling: Any) -> None:
    work = sampling()
    running = engine.submit(work, kind="txt2img")
    work.reached()
    ids = [engine.submit(lambda job: 1, kind="txt2img", task_id=name).id for name in "abc"]
    engine.promote("c", 1)
    assert engine.pending() == ["c", "a", "b"]
    engine.promote("c", 99)
    assert engine.pending() == ids
    with pytest.raises(Conflict):
        engine.promote(running.id, 1)
    work.finish()


def test_an_ended_job_is_forgotten_on_demand(engine: Engine, sampling: Any) -> None:
    work = sampling()
    job = engine.submit(work, kind="txt2img")
    with pytest.raises(Conflict):
        engine.forget(job.id)
    work.finish()
    job.join(WAIT)
    engine.forget(job.id)
    with pytest.raises(NotFound):
        engine.get(job.id)
    assert engine.submit(lambda job: 1, kind="txt2img", task_id=job.id).join(WAIT) == 1


def test_garbage_is_collected_again_after_imports_that_fail_too() -> None:
    with suppress(ImportError), collecting_later():
        assert not gc.isenabled()
        with collecting_later():
            pass
        assert not gc.isenabled(), "the outer block still imports"
        raise ImportError("no such library")
    assert gc.isenabled()
