"""Interrupt, skip and cancel, as A1111 and the jobs API mean them."""

from __future__ import annotations

from typing import Any

import pytest

from latentd.engine.executor import Engine
from latentd.engine.job import Job, JobCancelled

WAIT = 20.0


def test_cancel_wins_over_interrupt_and_interrupt_over_skip(engine: Engine, sampling: Any) -> None:
    work = sampling(steps=4)
    job = engine.submit(work, kind="txt2img")
    work.reached()
    job.skip()
    assert job.stop_requested() == "skip"
    job.interrupt()
    assert job.stop_requested() == "interrupt"
    job.request_cancel()
    assert job.stop_requested() == "cancel"
    work.finish()


def test_cancelling_a_waiting_job_takes_it_out_at_once_and_twice_is_once(engine: Engine, sampling: Any) -> None:
    first, second, third = sampling(), sampling(), sampling()
    running = engine.submit(first, kind="txt2img")
    first.reached()
    waiting = engine.submit(second, kind="txt2img")
    last = engine.submit(third, kind="txt2img")
    assert (waiting.position, last.position) == (1, 2)
    assert engine.cancel(waiting.id) is engine.cancel(waiting.id) is waiting
    assert waiting.status == "cancelled"
    assert waiting.started is None
    assert last.position == 1
    first.finish()
    third.finish()
    assert running.join(WAIT) == last.join(WAIT) == [4]
    assert engine.cancel(running.id).status == "completed", "an ended job stays as it is"


def test_flags_set_when_idle_are_shown_and_forgotten_by_the_next_job(engine: Engine, sampling: Any) -> None:
    engine.interrupt()
    engine.skip()
    assert engine.state().interrupted
    assert engine.state().skipped
    work = sampling(steps=2)
    job = engine.submit(work, kind="txt2img")
    work.reached()
    assert not engine.state().interrupted
    assert not engine.state().skipped
    work.finish()
    assert job.join(WAIT) == [2]


def test_interrupt_does_not_touch_those_who_wait(engine: Engine, sampling: Any) -> None:
    first, second = sampling(), sampling()
    running = engine.submit(first, kind="txt2img")
    first.reached()
    waiting = engine.submit(second, kind="txt2img")
    engine.interrupt()
    first.finish()
    second.finish()
    assert running.join(WAIT) == [0]
    assert waiting.join(WAIT) == [4]


def test_work_without_partial_results_that_is_interrupted_ends_as_cancelled(engine: Engine) -> None:
    def work(job: Job[None]) -> None:
        engine.interrupt()
        job.check()

    job = engine.submit(work, kind="extras")
    with pytest.raises(JobCancelled, match="interrupted"):
        job.join(WAIT)


def test_a_quiet_job_is_out_of_reach_and_out_of_sight(engine: Engine, sampling: Any) -> None:
    work = sampling(steps=3)
    job = engine.submit(work, kind="load", quiet=True)
    work.reached()
    assert engine.current() is None
    assert engine.state().job_count == 0
    engine.interrupt()
    work.finish()
    assert job.join(WAIT) == [3]
