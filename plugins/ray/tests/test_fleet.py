"""How many actors there are, on the core's own queue with places that need no cluster."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from latentd_ray.cluster import Cluster
from latentd_ray.executor import bounds_of
from latentd_ray.fleet import PAUSE, Bounds, Fleet
from latentd_ray.versions import difference, versions_here
from ray_servers import until

from latentd.api import (
    DeviceLost,
    FarLink,
    FarMessage,
    FarNews,
    FarReady,
    FarRunner,
    JobControl,
    LinkLost,
    NeededFile,
    PortableWork,
    QueueExecutor,
    Settings,
)
from latentd.testing import HeadlessServices


class Idle:
    """A far side that is ready at once and is sent nothing."""

    def __init__(self) -> None:
        self.ended = self.lost = False
        self._news: list[FarNews] = [FarReady()]

    def send(self, message: FarMessage) -> None:
        raise AssertionError("nothing is to be sent")

    def supply(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        return False

    def receive(self, timeout: float) -> FarNews | None:
        if self.lost:
            raise LinkLost("it is gone")
        return self._news.pop() if self._news else None

    def end(self) -> None:
        self.ended = True


class Places:
    """An executor with one place of a fleet, whose looks are the test's; and the far sides that were made."""

    def __init__(self, bounds: Bounds) -> None:
        self.links: dict[str, Idle] = {}
        self.broken = False
        runners = [self._new()]
        self.executor = QueueExecutor(runners=runners)
        self.now, self.entered = 0.0, 0
        self.fleet = Fleet(self.executor, bounds, runners, self._new, clock=lambda: self.now)
        self.gates: list[threading.Event] = []

    def look(self, now: float) -> None:
        self.now = now
        self.fleet.look()

    def _new(self) -> FarRunner:
        name = f"ray:{len(self.links)}"
        self.links[name] = Idle()
        return FarRunner(name, lambda: self._open(name))

    def _open(self, name: str) -> FarLink:
        if self.broken:
            raise LinkLost("there is no room")
        return self.links[name]

    def occupy(self) -> None:
        gate = threading.Event()
        self.gates.append(gate)

        def work(control: JobControl) -> None:
            self.entered += 1
            gate.wait(30)

        self.executor.submit(work, kind="txt2img")

    def names(self) -> list[str]:
        return [place.name for place in self.executor.places()]


@pytest.fixture
def places() -> Iterator[Places]:
    made = Places(Bounds(least=1, most=3, idle_seconds=60))
    yield made
    for gate in made.gates:
        gate.set()
    made.executor.close()


def test_places_come_with_waiting_jobs_up_to_the_bound_and_go_when_idle(places: Places) -> None:
    for _ in range(6):
        places.occupy()
    until(lambda: places.entered == 1, "no job began")
    places.look(0.0)
    until(lambda: len(places.names()) == 3, "no places came")
    until(lambda: places.entered == 3, "the new places take no jobs")
    places.look(1.0)
    assert len(places.names()) == 3
    for gate in places.gates:
        gate.set()
    until(lambda: all(place.state == "idle" for place in places.executor.places()), "the jobs do not end")
    for now in (2.0, 50.0):
        places.look(now)
        assert len(places.names()) == 3
    for now in (63.0, 64.0, 65.0, 66.0):
        places.look(now)
    assert len(places.names()) == 1
    assert sum(link.ended for link in places.links.values()) == 2


def test_after_a_failed_start_the_next_waits(places: Places) -> None:
    for _ in range(3):
        places.occupy()
    until(lambda: places.entered == 1, "no job began")
    places.broken = True
    places.look(0.0)
    until(lambda: not places.fleet.is_starting, "the starts do not end")
    made = len(places.links)
    places.look(PAUSE - 1)
    assert len(places.links) == made == 3
    places.broken = False
    places.look(PAUSE + 1)
    until(lambda: len(places.names()) == 3, "no places came")


def test_a_place_whose_actors_end_one_after_another_is_replaced(places: Places) -> None:
    places.occupy()
    places.gates[0].set()
    until(lambda: places.executor.current() is None and not places.executor.pending(), "the job does not end")
    places.links["ray:0"].lost = places.broken = True
    services = HeadlessServices()
    work = PortableWork(function=print, services=services)
    with pytest.raises(DeviceLost):
        places.executor.submit(work, kind="txt2img").join(30)
    assert [place.state for place in places.executor.places()] == ["drained"]
    places.broken = False
    places.look(0.0)
    assert places.names() == []
    places.look(PAUSE + 1)
    until(lambda: places.names() == ["ray:1"], "no other place came")


@pytest.mark.parametrize(
    ("flags", "capacity", "expected"),
    [
        ({}, 8, (8, 8)),
        ({}, 1, (1, 1)),
        ({"ray_min_actors": 2}, 8, (2, 2)),
        ({"ray_max_actors": 4}, 8, (4, 4)),
        ({"ray_max_actors": 4}, 1, (1, 4)),
        ({"ray_min_actors": 2, "ray_max_actors": 6}, 1, (2, 6)),
    ],
)
def test_the_bounds_are_those_of_the_flags(flags: dict[str, int], capacity: int, expected: tuple[int, int]) -> None:
    bounds = bounds_of(Settings(**flags), capacity)
    assert (bounds.least, bounds.most) == expected


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "refused"), ("ray://127.0.0.1:10001", "10.0.0.1:6379"), ("elsewhere", "10.0.0.1:6379")],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, words: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(DeviceLost, match=re.escape(f"--ray-address {address}: ") + ".*" + words):
        Cluster(Settings(ray_address=address))


def test_every_difference_of_versions_is_named() -> None:
    here = versions_here()
    assert {"Python", "latentd"} <= set(here)
    assert difference(here, here) is None
    found = difference({"Python": "3.11", "a": "1.0"}, {"Python": "3.12", "a": "1.0", "b": "2.0"})
    assert found == "Python is 3.11 on the server and 3.12 there; b is not installed on the server and 2.0 there"
