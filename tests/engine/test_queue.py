"""The order in which waiting jobs run."""

from __future__ import annotations

from typing import Any

from latentd.engine.job import Job, Share
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
    while (job := queue.pop([loaded] if loaded else [])) is not None:
        loaded = job.model_key or loaded
        order.append(job.id)
    return order


def test_first_in_first_out_with_one_model() -> None:
    assert drained(queue_of("aaa"), "a") == ["a0", "a1", "a2"]


def test_nothing_loaded_is_strict_order() -> None:
    queue = queue_of("ab")
    first = queue.pop()
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


def alike(names: str, *, size: float = 1.0, max_overtakes: int = 4) -> JobQueue:
    """One job a letter; equal letters may share, ``-`` is made by itself."""
    queue = JobQueue(limit=100, max_overtakes=max_overtakes)
    for n, name in enumerate(names):
        share = Share(key=name, size=size, content=None, work=lambda jobs, conclude: None)
        queue.push(
            Job(lambda job: None, id=f"{name}{n}", kind="txt2img", model_key="m", share=None if name == "-" else share)
        )
    return queue


def sharing(queue: JobQueue, limit: float = 8.0) -> list[str]:
    first = queue.pop()
    assert first is not None
    return [job.id for job in queue.take_sharing(first, limit)]


def test_those_that_are_alike_come_along_and_the_others_stay_in_order() -> None:
    queue = alike("abab-a")
    assert sharing(queue) == ["a2", "a5"]
    assert [job.id for job in queue] == ["b1", "b3", "-4"]


def test_jobs_that_share_stays_within_the_limit() -> None:
    assert sharing(alike("aaaa"), limit=2) == ["a1"]
    assert sharing(alike("aaaa"), limit=0) == []
    assert sharing(alike("aaaa", size=4.0)) == ["a1"]
    assert sharing(alike("-aa")) == []


def test_jobs_that_share_overtakes_within_the_bound() -> None:
    queue = alike("abaaaaa", max_overtakes=2)
    assert sharing(queue) == ["a2", "a3"]
    assert next(iter(queue)).overtaken == 2
    assert drained(queue, None)[0] == "b1", "and then it is its turn"
