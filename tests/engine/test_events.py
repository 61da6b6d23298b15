"""Events: in order, bounded, and never in the worker's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from latentd.engine.events import FINAL, Event, EventBus
from latentd.engine.executor import Engine
from latentd.engine.job import Job
from latentd.errors import QueueFull

WAIT = 20.0


def test_a_listener_hears_a_job_from_start_to_end(engine: Engine, sampling: Any) -> None:
    async def main() -> list[tuple[str, int]]:
        gate = sampling()
        engine.submit(gate, kind="txt2img")
        await asyncio.to_thread(gate.reached)
        work = sampling(steps=3)
        job = engine.submit(work, kind="txt2img")
        heard = []
        with engine.subscribe(job.id) as events:
            gate.finish()
            await asyncio.to_thread(work.reached)
            await asyncio.to_thread(work.go, 2)
            work.finish()
            while not heard or heard[-1][0] not in FINAL:
                event = await events.get(WAIT)
                assert event is not None, "silence"
                heard.append((event.name, event.data["step"]))
        return heard

    heard = asyncio.run(main())
    assert next(name for name, _ in heard) == "started"
    assert heard[-1][0] == "completed"
    steps = [step for name, step in heard if name == "progress"]
    assert steps
    assert steps == sorted(steps)
    assert len(engine.events) == 0


def test_waiting_jobs_hear_that_they_moved_up(engine: Engine, sampling: Any) -> None:
    async def main() -> list[int]:
        works = [sampling() for _ in range(3)]
        jobs = [engine.submit(work, kind="txt2img") for work in works]
        await asyncio.to_thread(works[0].reached)
        with engine.subscribe(jobs[2].id) as events:
            for work in works:
                work.finish()
            places = []
            while (event := await events.get(WAIT)) is not None and event.name not in FINAL:
                places.append(event.data["position"])
        return places

    assert asyncio.run(main())[:2] == [1, 0]


def event(name: str, n: int, job_id: str = "a") -> Event:
    return Event(job_id=job_id, name=name, data={"n": n})


def test_unread_progress_is_replaced_not_piled_up() -> None:
    async def main() -> list[tuple[str, Any]]:
        bus = EventBus(buffer=4)
        with bus.subscribe("a") as events:
            bus.publish(event("started", 0))
            for n in range(1000):
                bus.publish(event("progress", n))
            bus.publish(event("completed", 1))
            bus.publish(event("started", 9, job_id="b"))
            heard = []
            while (one := await events.get(0.01)) is not None:
                heard.append((one.name, one.data["n"]))
            assert events.dropped == 0
        return heard

    assert asyncio.run(main()) == [("started", 0), ("progress", 999), ("completed", 1)]


def test_a_listener_that_does_not_read_loses_the_oldest() -> None:
    async def main() -> tuple[list[Any], int]:
        bus = EventBus(buffer=4)
        with bus.subscribe() as events:
            for n in range(10):
                bus.publish(event("queued", n, job_id=str(n)))
            heard = []
            while (one := await events.get(0.01)) is not None:
                heard.append(one.data["n"])
            return heard, events.dropped

    assert asyncio.run(main()) == ([6, 7, 8, 9], 6)


def test_the_number_of_listeners_is_bounded(engine: Engine) -> None:
    async def main() -> None:
        engine.events.limit = 2
        with engine.subscribe(), engine.subscribe(), pytest.raises(QueueFull):
            engine.subscribe()
        with engine.subscribe():
            pass

    asyncio.run(main())


def test_a_listener_whose_loop_is_closed_is_forgotten() -> None:
    bus = EventBus()

    async def main() -> None:
        bus.subscribe()

    asyncio.run(main())
    bus.publish(event("started", 0))
    assert len(bus) == 0


def test_the_observer_hears_everything_and_may_fail(make_engine: Callable[..., Engine]) -> None:
    heard: list[tuple[str, str]] = []

    def observe(job_id: str, name: str, data: Mapping[str, Any]) -> None:
        heard.append((job_id, name))
        raise RuntimeError("observers may fail quietly")

    engine = make_engine(observer=observe)

    def work(job: Job[int]) -> int:
        job.progress.sampling_step = 1
        job.check()
        job.check()
        return 1

    job = engine.submit(work, kind="txt2img")
    assert job.join(WAIT) == 1
    engine.close()
    assert sorted(name for _, name in heard) == ["completed", "progress", "queued", "started"]
