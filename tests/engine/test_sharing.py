"""Jobs carried out together: handed over at once, each concluded by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from latentd.engine.executor import Engine
from latentd.engine.job import Conclude, Job, JobCancelled, Share
from latentd.errors import Interrupted, InvalidRequest

WAIT = 20.0
Work = Callable[[Sequence[Job[Any]], Conclude], None]


def submitted(engine: Engine, sampling: Any, work: Work, count: int = 3) -> list[Job[Any]]:
    """Jobs that all wait for one worker before it comes for the first of them."""
    hold = sampling()
    engine.submit(hold, kind="txt2img")
    hold.reached()
    jobs = [
        engine.submit(lambda job: "by itself", kind="txt2img", share=Share(key="k", size=1.0, content=n, work=work))
        for n in range(count)
    ]
    hold.finish()
    return jobs


@pytest.fixture
def sharing_engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine(share_limit=lambda: 8.0)


def test_each_gets_its_own_result(sharing_engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        assert {job.status for job in jobs} == {"running"}
        for job in reversed(jobs):
            assert job.share is not None
            conclude(job, [job.share.content, len(jobs)], None)
            assert job.ended, "those who wait for it need not wait for the others"

    jobs = submitted(sharing_engine, sampling, work)
    assert [job.join(WAIT) for job in jobs] == [[0, 3], [1, 3], [2, 3]]
    assert all(job.share is None for job in jobs), "what the work held goes with the job"


def test_a_lone_job_is_carried_out_by_itself(sharing_engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        raise AssertionError("there is nobody to share with")

    assert submitted(sharing_engine, sampling, work, count=1)[0].join(WAIT) == "by itself"


def test_without_a_limit_nothing_is_shared(engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        raise AssertionError("sharing is off")

    assert {job.join(WAIT) for job in submitted(engine, sampling, work)} == {"by itself"}


def test_errors_are_each_ones_own(sharing_engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        first, second, third = jobs
        conclude(first, None, InvalidRequest("no"))
        conclude(second, None, Interrupted("stopped"))
        conclude(third, "fine", None)

    first, second, third = submitted(sharing_engine, sampling, work)
    with pytest.raises(InvalidRequest, match="no"):
        first.join(WAIT)
    with pytest.raises(JobCancelled):
        second.join(WAIT)
    assert third.join(WAIT) == "fine"
    assert [job.status for job in (first, second, third)] == ["failed", "cancelled", "completed"]


def test_work_that_breaks_fails_those_that_had_not_ended(sharing_engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        conclude(jobs[0], "fine", None)
        raise SystemExit("a plugin")

    first, *others = submitted(sharing_engine, sampling, work)
    assert first.join(WAIT) == "fine"
    for job in others:
        with pytest.raises(SystemExit):
            job.join(WAIT)
        assert job.status == "failed"
    assert sharing_engine.submit(lambda job: 1, kind="txt2img").join(WAIT) == 1, "the worker lives on"


def test_interrupt_reaches_all_that_run_and_cancel_one(sharing_engine: Engine, sampling: Any) -> None:
    def work(jobs: Sequence[Job[Any]], conclude: Conclude) -> None:
        sharing_engine.cancel(jobs[0].id)
        sharing_engine.interrupt()
        for job in jobs:
            conclude(job, job.stop_requested(), None)

    cancelled, *others = submitted(sharing_engine, sampling, work)
    with pytest.raises(JobCancelled):
        cancelled.join(WAIT)
    assert [job.join(WAIT) for job in others] == ["interrupt", "interrupt"]
