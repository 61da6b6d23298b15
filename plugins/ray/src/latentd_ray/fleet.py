"""How many actors there are: bounds, jobs that wait, places that are idle, places that failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from latentd.api import DeviceTrouble, FarRunner, LatentdError, Place, QueueExecutor

log = logging.getLogger(__name__)

#: Seconds between looks.
LOOK = 1.0
#: Seconds after an actor could not be started until the next is tried.
PAUSE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many actors there may be, and for how many seconds one beyond the least number may have nothing to do."""

    least: int
    most: int
    idle_seconds: float

    def wanted(self, busy: int, waiting: int) -> int:
        """How many actors are worth having where ``busy`` are at work and as many jobs wait."""
        return max(self.least, min(self.most, busy + waiting))


@dataclass(slots=True)
class Idleness:
    """Since when each place has had nothing to do."""

    since: dict[str, float] = field(default_factory=dict)

    def look(self, places: Sequence[Place], now: float) -> None:
        """Take note of what the places do at ``now``."""
        idle = [place.name for place in places if place.state == "idle"]
        self.since = {name: self.since.get(name, now) for name in idle}

    def longest(self, seconds: float, now: float) -> str | None:
        """The place that has been idle for longest, if for over ``seconds``."""
        name = min(self.since, key=self.since.__getitem__, default=None)
        return name if name is not None and now - self.since[name] > seconds else None


class Fleet:
    """Adds actors to an executor and takes them away; on a thread of its own from :meth:`start` on.

    :param runners: the places that the executor has.
    :param new_runner: makes a place; its actor is not started yet.
    :param clock: the present time in seconds.
    """

    def __init__(
        self,
        executor: QueueExecutor,
        bounds: Bounds,
        runners: Sequence[FarRunner],
        new_runner: Callable[[], FarRunner],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._bounds = bounds
        self._new_runner = new_runner
        self._clock = clock
        self._runners = {runner.name: runner for runner in runners}
        self._starting: dict[str, FarRunner] = {}
        self._leaving: dict[str, FarRunner] = {}
        self._idleness = Idleness()
        self._not_before = float("-inf")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="latentd-ray", daemon=True)

    def start(self) -> None:
        """Watch over the executor until :meth:`close`."""
        self._thread.start()

    @property
    def is_starting(self) -> bool:
        """Whether an actor is being started."""
        return bool(self._starting)

    def close(self) -> None:
        """Change nothing any more, and end the actors that the executor does not have."""
        self._closed.set()
        self._thread.join(LOOK * 2)
        for runner in [*self._starting.values(), *self._leaving.values()]:
            runner.close()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK):
            try:
                self.look()
            except Exception:
                log.exception("looking after the actors failed")

    def look(self) -> None:
        """Do what is to be done now, without waiting for it."""
        now = self._clock()
        places = self._executor.places()
        for place in places:
            if place.state == "drained":
                log.warning("%s is given up: %s", place.name, place.trouble)
                self._not_before = now + PAUSE
                self._remove(place.name)
        self._end_left()
        serving = [place for place in places if place.state != "drained"]
        busy = sum(place.state == "busy" for place in serving)
        missing = self._bounds.wanted(busy, len(self._executor.pending())) - len(serving) - len(self._starting)
        for _ in range(missing if now >= self._not_before else 0):
            self._start_one()
        self._idleness.look(serving, now)
        idle = self._idleness.longest(self._bounds.idle_seconds, now)
        if idle is not None and len(serving) > self._bounds.least and not self._executor.pending():
            log.info("%s has had nothing to do for %.0f s and ends", idle, self._bounds.idle_seconds)
            self._remove(idle)

    def _remove(self, name: str) -> None:
        """Take no more jobs to a place; its actor ends when it has none any more."""
        self._executor.remove_runner(name)
        if (runner := self._runners.pop(name, None)) is not None:
            self._leaving[name] = runner

    def _end_left(self) -> None:
        running = {job.device for job, _ in self._executor.jobs() if job.status == "running"}
        for name in [name for name in self._leaving if name not in running]:
            self._leaving.pop(name).close()

    def _start_one(self) -> None:
        runner = self._new_runner()
        self._starting[runner.name] = runner
        threading.Thread(target=self._bring, args=(runner,), name=f"latentd-start-{runner.name}", daemon=True).start()

    def _bring(self, runner: FarRunner) -> None:
        """Start an actor, and let it have jobs once it can work."""
        try:
            runner.prepare()
            self._runners[runner.name] = runner
            self._executor.add_runner(runner)
        except (DeviceTrouble, LatentdError) as error:
            self._not_before = self._clock() + PAUSE
            log.error("%s could not be started: %s", runner.name, error)
        finally:
            self._starting.pop(runner.name, None)
