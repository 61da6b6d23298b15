"""Places with a far side, which here is this process: how one is found lost, made anew, and what becomes of its job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from latentd.engine.executor import Engine
from latentd.engine.far import FarMessage, FarNews, LinkLost, Outcome, Ready, Task, Unable
from latentd.engine.far_runner import DEATHS, FarRunner
from latentd.errors import DeviceLost, LatentdError
from latentd.executors import Home, NeededFile, PortableWork
from latentd.testing import HeadlessServices
from latentd.types import JobControl

PATIENCE = 20.0
FILE = NeededFile(kind="Lora", name="a.safetensors", path=Path("/a"), size=1, sha256=None)


class FarSides:
    """Makes the far sides of one place, and loses them."""

    def __init__(self, name: str, *, retry: bool = False) -> None:
        self.made: list[FarSide] = []
        self.unable: LatentdError | None = None
        self.slow = threading.Event()
        self.slow.set()
        self.runner = FarRunner(name, self._connect, retry=retry)

    def _connect(self) -> FarSide:
        side = FarSide(self)
        self.made.append(side)
        return side


class FarSide:
    """Gives each task's number among those of the place, unless it holds it."""

    def __init__(self, place: FarSides) -> None:
        self.place = place
        self.tasks: list[Task] = []
        self.holds = False
        self.lost = self.ended = False
        self.supplied: list[NeededFile] = []
        self._greeted = False
        self._news: deque[FarNews] = deque()

    def send(self, message: FarMessage) -> None:
        if isinstance(message, Task):
            self.tasks.append(message)
            if not self.holds:
                self._news.append(Outcome(result=f"{self.place.runner.name} {len(self.place.made)}"))

    def supply(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        new = [file for file in files() if file not in self.supplied]
        self.supplied += new
        return bool(new)

    def receive(self, timeout: float) -> FarNews | None:
        if self.lost or self.ended:
            raise LinkLost(f"the far side of {self.place.runner.name} ended")
        if not self._greeted:
            if not self.place.slow.wait(timeout):
                return None
            self._greeted = True
            return Ready() if self.place.unable is None else Unable.because_of(self.place.unable)
        if not self._news:
            time.sleep(timeout / 10)
        return self._news.popleft() if self._news else None

    def end(self) -> None:
        self.ended = True


def portable(**fields: Any) -> PortableWork[Any]:
    return PortableWork(function=print, services=HeadlessServices(), **fields)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


MakeEngine = Callable[..., Engine]


def engine_of(make_engine: MakeEngine, *places: FarSides) -> Engine:
    return make_engine(runners=[place.runner for place in places])


def test_a_far_side_that_ended_while_idle_costs_no_job(make_engine: MakeEngine) -> None:
    place = FarSides("one")
    engine = engine_of(make_engine, place)
    assert engine.submit(portable(), kind="txt2img").join(PATIENCE) == "one 1"
    place.made[0].lost = True
    job = engine.submit(portable(), kind="txt2img")
    assert job.join(PATIENCE) == "one 2"
    assert place.made[0].ended
    assert job.failed_on is None


def test_the_job_of_a_far_side_that_ended_fails_where_it_may_have_ended_it(make_engine: MakeEngine) -> None:
    one, two = FarSides("one"), FarSides("two")
    engine = engine_of(make_engine, one, two)
    first = engine.submit(portable(), kind="txt2img", device="one")
    first.join(PATIENCE)
    one.made[0].holds = True
    job = engine.submit(portable(), kind="txt2img", device="one")
    until(lambda: len(one.made[0].tasks) == 2)
    one.made[0].lost = True
    with pytest.raises(DeviceLost, match="the far side of one ended while it worked on this job"):
        job.join(PATIENCE)
    assert engine.submit(portable(), kind="txt2img", device="one").join(PATIENCE) == "one 2"


def test_it_is_tried_once_elsewhere_if_the_place_says_so(make_engine: MakeEngine) -> None:
    places = [FarSides(name, retry=True) for name in ("one", "two", "three")]
    engine = engine_of(make_engine, *places)
    for place in places:
        engine.submit(portable(), kind="load", device=place.runner.name).join(PATIENCE)
        place.made[0].holds = True
    job = engine.submit(portable(), kind="txt2img")
    for _ in range(2):
        until(lambda: any(len(place.made[0].tasks) == 2 and not place.made[0].lost for place in places))
        next(place for place in places if len(place.made[0].tasks) == 2 and not place.made[0].lost).made[0].lost = True
    with pytest.raises(DeviceLost):
        job.join(PATIENCE)
    assert sorted(len(place.made[0].tasks) for place in places) == [1, 2, 2]


def test_while_a_place_starts_again_others_take_the_jobs_for_its_models(make_engine: MakeEngine) -> None:
    one, two = FarSides("one", retry=True), FarSides("two", retry=True)
    engine = engine_of(make_engine, one, two)
    engine.submit(portable(), kind="load", device="one", model_key="a").join(PATIENCE)
    engine.submit(portable(), kind="load", device="two", model_key="b").join(PATIENCE)
    one.slow.clear()
    one.made[0].lost = True
    # It goes to the place with its model, is found not to have begun, and goes to the other.
    assert engine.submit(portable(), kind="txt2img", model_key="a").join(PATIENCE) == "two 1"
    states = {place.name: (place.state, place.loaded) for place in engine.places()}
    assert states == {"one": ("starting", ()), "two": ("idle", ("a",))}
    assert engine.submit(portable(), kind="txt2img", model_key="c").join(PATIENCE) == "two 1"
    one.slow.set()
    assert engine.submit(portable(), kind="load", device="one").join(PATIENCE) == "one 2"


def test_closing_does_not_wait_for_a_start(make_engine: MakeEngine) -> None:
    place = FarSides("one")
    engine = engine_of(make_engine, place)
    engine.submit(portable(), kind="load").join(PATIENCE)
    place.slow.clear()
    place.made[0].lost = True
    job = engine.submit(portable(), kind="txt2img")
    until(lambda: len(place.made) == 2)
    begun = time.monotonic()
    assert engine.close(PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2
    assert job.status == "cancelled"
    assert place.made[1].ended


def test_a_place_that_cannot_start_again_is_drained(make_engine: MakeEngine) -> None:
    place = FarSides("one")
    engine = engine_of(make_engine, place)
    engine.submit(portable(), kind="load").join(PATIENCE)
    place.unable = DeviceLost("there is no device")
    place.made[0].lost = True
    with pytest.raises(DeviceLost, match="no device is left for this job"):
        engine.submit(portable(), kind="txt2img").join(PATIENCE)
    assert len(place.made) == DEATHS
    assert [place.state for place in engine.places()] == ["drained"]


def test_files_are_supplied_before_the_task_and_looked_for_by_it(make_engine: MakeEngine) -> None:
    place = FarSides("one")
    engine = engine_of(make_engine, place)
    work = portable(files=lambda: [FILE], home=Home(scans=lambda: 5, options=lambda: {"a": 1}))
    for _ in range(2):
        engine.submit(work, kind="txt2img").join(PATIENCE)
    assert place.made[0].supplied == [FILE]
    assert [task.scans for task in place.made[0].tasks] == [6, 6]
    assert place.made[0].tasks[0].options == {"a": 1}
