"""The order in which waiting jobs run."""

from __future__ import annotations

from typing import Any

from latentd.engine.job import Job
from latentd.engine.queue import JobQueue


def queue_of(names: str, *, max_overtakes: int = 2) -> JobQueue:
    """One job a letter; the letter is its model, ``-`` needs none."""
    queue = JobQueue(limit=100, max_overtakes=max_overtakes)
    for n, name in enumerate(names):
        job: Job[Any] = Job(lambda job: None, id=f"{name}{n}", kind="txt2img", model_key=None if name == "-" else name)
        queue.push(job)
    return queue


def drained(queue: JobQueue, loaded: str | None) -> list[str]:
    order = []
    while (job := queue.pop(loaded)) is not None:
        loaded = job.model_key or loaded
        order.append(job.id)
    return order


def test_first_in_first_out_with_one_model() -> None:
    assert drained(queue_of("aaa"), "a") == ["a0", "a1", "a2"]


def test_nothing_loaded_is_strict_order() -> None:
    queue = queue_of("ab")
    first = queue.pop(None)
    assert first is not None
    assert first.id == "a0"


def test_a_job_whose_model_is_loaded_goes_first() -> None:
    assert drained(queue_of("baba"), "a") == ["a1", "a3", "b0", "b2"]


def test_no_job_is_passed_more_often_than_the_bound() -> None:
    assert drained(queue_of("baaaaa"), "a") == ["a1", "a2", "b0", "a3", "a4", "a5"]
    assert drained(queue_of("baaa", max_overtakes=0), "a") == ["b0", "a1", "a2", "a3"]


def test_the_bound_holds_for_those_behind_the_first_as_well() -> None:
    queue = queue_of("bcaaa", max_overtakes=2)
    list(queue)[1].overtaken = 2
    assert drained(queue, "a")[0] == "b0"


def test_a_job_that_needs_no_model_runs_in_its_turn() -> None:
    assert drained(queue_of("-aba"), "b")[0] == "-0"


def test_positions_and_removal() -> None:
    queue = queue_of("aaa")
    first, second, third = queue
    assert [queue.position(job) for job in (first, second, third)] == [1, 2, 3]
    assert queue.remove(second)
    assert not queue.remove(second)
    assert (queue.position(second), queue.position(third)) == (0, 2)
    assert len(queue) == 2
