"""The contract of executors: what every one must do with jobs, whatever runs them and wherever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pytest

from latentd.errors import Conflict, Interrupted, InvalidRequest, LatentdError, NotFound
from latentd.executors import Division, Executor, ExecutorJob, Part, PortableWork
from latentd.services import Services
from latentd.types import JobControl, JsonValue

T = TypeVar("T")

#: Seconds that anything may take; a place may have to start a process first.
PATIENCE = 90.0


def check_executor(executor: Executor, services: Services) -> None:
    """Hold ``executor``, which is new and has run nothing, to its contract, and close it.

    :param services: what portable work is given; an executor that runs it elsewhere makes its own of these settings.
    :raises AssertionError: it does not keep the contract; the message says in what.
    """
    heard: list[tuple[str, str]] = []

    def observe(job_id: str, event: str, data: Mapping[str, JsonValue]) -> None:
        heard.append((job_id, event))
        raise RuntimeError("an observer that fails must harm no job")

    executor.observe(observe)
    assert isinstance(executor, Executor), "it lacks methods of latentd.api.Executor"
    assert executor.current() is None, "a new executor runs something"
    assert executor.places(), "it has no place to run jobs"
    _check_results(executor)
    _check_errors(executor)
    _check_order(executor)
    _check_stopping(executor)
    _check_events(executor)
    _check_places(executor)
    _check_portable(executor, services)
    _check_division(executor, services)
    _check_observer(executor, heard)
    _check_closing(executor)


# --- work ------------------------------------------------------------------------------------------------------------


def count_steps(services: Services, control: JobControl, steps: int, pause: float) -> dict[str, JsonValue]:
    """Portable work: ``steps`` steps with a preview and a warning; says how many it took before it was stopped."""
    from PIL import Image

    control.progress.job_count = 1
    control.progress.sampling_steps = steps
    control.warn(f"{steps} steps are counted")
    done = 0
    for step in range(steps):
        try:
            control.check()
        except Interrupted:
            if control.stop_requested() == "cancel":
                raise
            break
        time.sleep(pause)
        done = control.progress.sampling_step = step + 1
        control.set_preview(Image.new("RGB", (8, 8), (done % 256, 0, 0)))
    return {"steps": done, "data_dir": services.settings.data_dir}


def refuse(services: Services, control: JobControl, detail: str) -> None:
    """Portable work that fails as a request does that asks for the impossible."""
    raise InvalidRequest(detail, hint="as it should")


def add_up(services: Services, control: JobControl, counted: Sequence[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    """Portable work: what parts that :func:`count_steps` have counted together."""
    return {"steps": sum(part["steps"] for part in counted), "data_dir": services.settings.data_dir}


class _Gate:
    """Work of this process that waits until it is let through, or stopped."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let = threading.Event()

    def __call__(self, control: JobControl) -> str:
        control.progress.job_count = 1
        self.entered.set()
        until = time.monotonic() + PATIENCE
        while not self.let.wait(0.01):
            assert time.monotonic() < until, "the gate was never opened"
            if control.stop_requested() == "interrupt":
                return "interrupted"
            control.check()
        return "through"


def _occupied(executor: Executor) -> tuple[list[_Gate], list[ExecutorJob[str]]]:
    """Gates that keep every place busy, and their jobs."""
    names = [place.name for place in executor.places() if place.state != "drained"]
    gates = [_Gate() for _ in names]
    jobs = [executor.submit(gate, kind="txt2img", device=name) for gate, name in zip(gates, names, strict=True)]
    for gate in gates:
        assert gate.entered.wait(PATIENCE), "a job did not begin"
    return gates, jobs


def _until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def _raised(job: ExecutorJob[T]) -> BaseException:
    try:
        job.join(PATIENCE)
    except Exception as error:
        return error
    raise AssertionError(f"{job.id} should have failed")


# --- the checks ------------------------------------------------------------------------------------------------------


def _check_results(executor: Executor) -> None:
    job = executor.submit(lambda control: [control.id], kind="extras", meta={"a": 1})
    assert job.join(PATIENCE) == [job.id], "the work was not called with its job"
    assert "extras" in job.id, "the id does not name the kind"
    assert (job.status, job.ended, job.kind, dict(job.meta)) == ("completed", True, "extras", {"a": 1})
    assert job.started is not None, "an ended job has no start"
    assert job.finished is not None, "an ended job has no end"
    assert job.created <= job.started <= job.finished, "its times are in no order"
    assert executor.get(job.id) is job, "get() gives another job"
    assert (job, 0) in list(executor.jobs()), "jobs() forgets an ended job at once"
    assert executor.finished()[-1] == job.id, "finished() does not end with it"
    asked = executor.submit(lambda control: 7, kind="txt2img", task_id="task(mine)")
    assert asked.id == "task(mine)", "the client's id is not kept"

    async def awaited() -> int:
        return await executor.submit(lambda control: 8, kind="txt2img", awaited=True).wait()

    assert asyncio.run(awaited()) == 8, "wait() gives another result"
    assert asked.join(PATIENCE) == 7


def _check_errors(executor: Executor) -> None:
    def fail(control: JobControl) -> None:
        raise InvalidRequest("no", hint="yes")

    job = executor.submit(fail, kind="txt2img")
    error = _raised(job)
    assert isinstance(error, InvalidRequest), "the work's exception has become another"
    assert error.hint == "yes", "the hint of its exception is lost"
    assert job.status == "failed"
    with pytest.raises(NotFound):
        executor.get("task(nobody)")


def _check_order(executor: Executor) -> None:
    gates, _ = _occupied(executor)
    order: list[int] = []
    jobs = [executor.submit(lambda control, n=n: order.append(n), kind="txt2img") for n in range(3)]  # type: ignore[misc]
    assert executor.pending() == [job.id for job in jobs], "pending() is not in the order of submission"
    assert [job.position for job in jobs] == [1, 2, 3], "positions do not count from 1"
    with pytest.raises(Conflict):
        executor.submit(lambda control: None, kind="txt2img", task_id=jobs[0].id)
    assert executor.cancel(jobs[1].id).status == "cancelled", "a waiting job is not cancelled at once"
    assert isinstance(_raised(jobs[1]), LatentdError)
    for gate in gates:
        gate.let.set()
    for job in (jobs[0], jobs[2]):
        job.join(PATIENCE)
    assert sorted(order) == [0, 2], "a cancelled job ran, or another did not"
    if len(gates) == 1:
        assert order == [0, 2], "jobs of one place did not run in order"


def _check_stopping(executor: Executor) -> None:
    _, jobs = _occupied(executor)
    quiet = executor.submit(lambda control: control.stop_requested(), kind="load", quiet=True)
    assert executor.current() in jobs, "current() is not a running job"
    assert executor.state().job_count == 1, "state() is not that of the running job"
    executor.interrupt()
    results = {job.join(PATIENCE) for job in jobs}
    assert results == {"interrupted"}, "interrupt() did not reach every running job"
    assert quiet.join(PATIENCE) is None, "interrupt() reached a job that came later"
    _until(lambda: executor.current() is None, "current() is not None when nothing runs")
    assert executor.state().job_count == 0, "state() is not idle when nothing runs"
    _, jobs = _occupied(executor)
    executor.skip()
    _until(lambda: all(job.ended for job in jobs), "skip() did not reach every running job")
    _, jobs = _occupied(executor)
    for job in jobs:
        executor.cancel(job.id)
        _raised(job)
        assert job.status == "cancelled", "a running job that was cancelled is not shown as such"


def _check_events(executor: Executor) -> None:
    async def events() -> list[str]:
        gate = _Gate()
        job = executor.submit(gate, kind="txt2img")
        with executor.subscribe(job.id) as heard:
            gate.let.set()
            names = []
            while (event := await heard.get(PATIENCE)) is not None:
                assert event.job_id == job.id, "a subscription to one job hears of others"
                assert event.data["id"] == job.id, "an event's data is not the job's document"
                names.append(event.name)
                if event.name in ("completed", "failed", "cancelled"):
                    return names
        return names

    assert asyncio.run(events())[-1] == "completed", "the last event is not the end of the job"


def _check_places(executor: Executor) -> None:
    for place in executor.places():
        job = executor.submit(lambda control: None, kind="txt2img", device=place.name)
        job.join(PATIENCE)
        assert job.device == place.name, "a job ran elsewhere than it was to"
    with pytest.raises(LatentdError) as refused:
        executor.submit(lambda control: None, kind="txt2img", device="nowhere")
    assert refused.value.status == 503, "a place that does not exist is no 503"


def _check_portable(executor: Executor, services: Services) -> None:
    told: list[object] = []

    def counting(steps: int, pause: float) -> ExecutorJob[dict[str, JsonValue]]:
        work = PortableWork(
            function=count_steps,
            arguments=(steps, pause),
            services=services,
            first=lambda control: told.append(control.id),
            last=told.append,
        )
        return executor.submit(work, kind="txt2img")

    job = counting(5, 0.0)
    result = job.join(PATIENCE)
    assert result == {"steps": 5, "data_dir": services.settings.data_dir}, "portable work gave something else"
    assert told == [job.id, result], "first and last were not called here, once each"
    assert job.progress.warnings == ("5 steps are counted",), "warnings of portable work do not come back"
    assert job.progress.sampling_steps == 5, "progress of portable work does not come back"
    for stop in (executor.interrupt, executor.skip):
        job = counting(10_000, 0.01)
        _until(lambda job=job: job.progress.sampling_step > 1, "progress of portable work is not shown")  # type: ignore[misc]
        _until(lambda job=job: job.progress.preview is not None, "its previews are not shown")  # type: ignore[misc]
        stop()
        assert 0 < int(job.join(PATIENCE)["steps"]) < 10_000, f"{stop.__name__}() did not reach portable work"
    job = counting(10_000, 0.01)
    _until(lambda: job.progress.sampling_step > 1, "progress of portable work is not shown")
    executor.cancel(job.id)
    _raised(job)
    assert job.status == "cancelled", "portable work was not cancelled"
    error = _raised(
        executor.submit(PortableWork(function=refuse, arguments=("no",), services=services), kind="txt2img")
    )
    assert isinstance(error, InvalidRequest), "the exception of portable work has become another"
    assert (error.detail, error.hint, error.status) == ("no", "as it should", 422)
    assert counting(3, 0.0).join(PATIENCE)["steps"] == 3, "nothing runs after a failure"


def _check_division(executor: Executor, services: Services) -> None:
    """Work that may be done in parts gives the same whether it is, and is stopped and told of as one job."""
    told: list[object] = []

    def counting(steps: int, pause: float) -> ExecutorJob[dict[str, JsonValue]]:
        def cut(count: int) -> list[Part]:
            counts = [steps * (number + 1) // count - steps * number // count for number in range(count)]
            works = [PortableWork(function=count_steps, arguments=(n, pause), services=services) for n in counts]
            return [Part(work=work, share=n / steps) for work, n in zip(works, counts, strict=True)]

        def join(counted: Sequence[Mapping[str, JsonValue]]) -> PortableWork[dict[str, JsonValue]]:
            return PortableWork(function=add_up, arguments=(tuple(counted),), services=services)

        work = PortableWork(
            function=count_steps,
            arguments=(steps, pause),
            services=services,
            first=lambda control: told.append(control.id),
            last=told.append,
            division=Division(most=steps, count=1, cut=cut, join=join),
        )
        return executor.submit(work, kind="txt2img")

    job = counting(12, 0.0)
    result = job.join(PATIENCE)
    assert result == {"steps": 12, "data_dir": services.settings.data_dir}, "divided work gave something else"
    assert told == [job.id, result], "first and last of divided work were not called here, once each"
    for stop in (executor.interrupt, executor.skip):
        job = counting(20_000, 0.01)
        _until(lambda job=job: job.progress.preview is not None, "previews of divided work are not shown")  # type: ignore[misc]
        assert executor.current() is job, "current() is not the divided job"
        stop()
        assert 0 < int(job.join(PATIENCE)["steps"]) < 20_000, f"{stop.__name__}() did not reach divided work"
    job = counting(20_000, 0.01)
    _until(lambda: job.status == "running", "divided work does not begin")
    executor.cancel(job.id)
    _raised(job)
    assert job.status == "cancelled", "divided work was not cancelled"
    _until(lambda: all(place.state != "busy" for place in executor.places()), "a part of it still runs")
    assert [job for job, _ in executor.jobs() if not job.ended] == [], "jobs() tells of parts"


def _check_observer(executor: Executor, heard: list[tuple[str, str]]) -> None:
    job = executor.submit(lambda control: None, kind="txt2img")
    job.join(PATIENCE)
    _until(lambda: (job.id, "completed") in heard, "the observer does not hear of an end")
    events = [event for job_id, event in heard if job_id == job.id]
    assert events == ["queued", "started", "completed"], f"the observer heard {events}"


def _check_closing(executor: Executor) -> None:
    _, running = _occupied(executor)
    waiting = executor.submit(lambda control: None, kind="txt2img")
    assert executor.close(PATIENCE), "close() did not end the jobs"
    assert all(job.ended for job in running), "close() left a job running"
    assert waiting.status == "cancelled", "close() did not cancel what waited"
    with pytest.raises(LatentdError) as refused:
        executor.submit(lambda control: None, kind="txt2img")
    assert refused.value.status == 503, "a closed executor must refuse with 503"
    assert executor.close(1.0), "close() cannot be called again"
