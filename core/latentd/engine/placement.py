"""Which place takes which waiting job, and which places take none any more."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import Generic, Protocol, TypeVar

from latentd.engine.job import AnyJob
from latentd.engine.queue import JobQueue
from latentd.errors import Conflict, DeviceLost

log = logging.getLogger(__name__)

#: How often in a row jobs may fail on a place and then succeed on another before it takes no more jobs.
STRIKES = 3


class Seat(Protocol):
    """A place as this module sees it: a worker, or one of a simulation."""

    @property
    def device(self) -> str:
        """Its name."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that it has in memory, the last used first."""

    @property
    def ready(self) -> bool:
        """Whether it can begin a job at once."""


S = TypeVar("S", bound=Seat)


class Placement(Generic[S]):
    """The places and the queue before them. It has no lock: the engine holds its own around every call.

    A job goes to a free place that has its model loaded; if none has it, to one that has no model yet, else to the one
    that asks first. A place that is not free is not waited for. Within that, the queue's order and its bound on
    overtaking count. Parts of a job that runs come before whatever waits.

    :ivar drained: the names of places that take no jobs any more, and why.
    """

    def __init__(self, queue: JobQueue) -> None:
        self.drained: dict[str, str] = {}
        self._seats: dict[str, S] = {}
        self._free: dict[str, S] = {}
        self._queue = queue
        self._parts = JobQueue(limit=sys.maxsize, max_overtakes=0)
        self._strikes: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()

    @property
    def seats(self) -> list[S]:
        """The places."""
        return list(self._seats.values())

    def add(self, seat: S) -> None:
        """Let ``seat`` take jobs from now on.

        :raises Conflict: there is a place of its name.
        """
        if seat.device in self._seats:
            raise Conflict(f"there is a place {seat.device!r} already")
        self.drained.pop(seat.device, None)
        self._seats[seat.device] = self._free[seat.device] = seat

    def remove(self, device: str) -> None:
        """Forget the place ``device``."""
        self._seats.pop(device, None)
        self._free.pop(device, None)

    def takes_jobs(self, seat: S) -> bool:
        """Whether ``seat`` is one of the places, and not drained."""
        return seat.device not in self.drained and self._seats.get(seat.device) is seat

    def serving(self) -> list[S]:
        """The places that take jobs."""
        return [seat for seat in self._seats.values() if seat.device not in self.drained]

    def serves(self, device: str | None) -> bool:
        """Whether a job for the place ``device``, or for any if it is None, can run."""
        return any(device in (None, name) for name in self._seats if name not in self.drained)

    def free(self, *, but: S) -> list[S]:
        """The places beside ``but`` that have nothing to do; they wait for a job or will ask for one at once."""
        return [seat for seat in self._free.values() if seat is not but and seat.ready]

    def begun(self, job: AnyJob) -> None:
        """Note that ``job`` runs on its place."""
        if job.parts:
            return
        name = job.device or ""
        self._busy[name] += 1
        self._free.pop(name, None)

    def left(self, job: AnyJob) -> None:
        """Note that ``job`` runs no more."""
        if job.parts:
            return
        name = job.device or ""
        self._busy[name] -= 1
        if not self._busy[name] and name in self._seats and name not in self.drained:
            self._free[name] = self._seats[name]

    def is_busy(self, seat: S) -> bool:
        """Whether a job runs on ``seat``."""
        return self._busy[seat.device] > 0

    def spare(self, *, but: S) -> int:
        """How many free places beside ``but`` no waiting job will take."""
        return len(self.free(but=but)) - len(self._queue) - len(self._parts)

    @property
    def parts_wait(self) -> bool:
        """Whether a part of a running job has no place yet."""
        return len(self._parts) > 0

    def put_first(self, job: AnyJob) -> None:
        """Let ``job``, a part or one that has been taken before, be the next of its kind."""
        (self._parts if job.is_part else self._queue).push_first(job)

    def take_back(self, job: AnyJob) -> bool:
        """Let ``job`` wait no longer; returns False if it did not."""
        return (self._parts if job.is_part else self._queue).remove(job)

    def next_part_for(self, seat: S) -> AnyJob | None:
        """As :meth:`next_for`, of the parts of running jobs."""
        if not self.takes_jobs(seat):
            return None
        return self._parts.pop(seat.loaded, lambda job: self._suits(job, seat))

    def next_for(self, seat: S) -> AnyJob | None:
        """Remove and return the waiting job that ``seat``, which is free, should run; None if there is none for it."""
        if not self.takes_jobs(seat):
            return None
        if len(self._seats) == 1:
            return self._queue.pop(seat.loaded)
        return self._queue.pop(seat.loaded, lambda job: self._suits(job, seat))

    def _suits(self, job: AnyJob, seat: S) -> bool:
        """Whether ``seat`` may take ``job``, and no other free one is better placed for it."""
        if job.wanted_device is not None:
            return job.wanted_device == seat.device
        if job.failed_on == seat.device and len(self.serving()) > 1:
            return False
        if job.model_key is None or job.model_key in seat.loaded:
            return True
        others = [free for free in self.free(but=seat) if free.device != job.failed_on]
        if any(job.model_key in free.loaded for free in others):
            return False
        return not seat.loaded or all(free.loaded for free in others)

    def drain(self, device: str, reason: str) -> None:
        """Let the place ``device`` take no more jobs."""
        log.error("%s takes no more jobs: %s", device, reason)
        self.drained[device] = reason
        self._free.pop(device, None)

    def orphans(self) -> list[AnyJob]:
        """Remove and return the waiting jobs that no place may take any more."""
        found = [job for job in (*self._parts, *self._queue) if not self.serves(job.wanted_device)]
        for job in found:
            self.take_back(job)
        return found

    def lost(self) -> DeviceLost:
        """The error of a job that no place may take."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.drained.items()) or "none of that name"
        return DeviceLost(f"no device is left for this job ({reasons})", hint="look into the log; restart the server")

    def may_go_elsewhere(self, job: AnyJob) -> bool:
        """Whether ``job``, with which its place failed, may be tried on another one: once, and if there is one."""
        others = [seat for seat in self.serving() if seat.device != job.device]
        return bool(others) and job.failed_on is None and job.wanted_device is None and not job.cancel_requested

    def succeeded(self, job: AnyJob) -> None:
        """Note that ``job`` is complete; the place that failed with it before is drained after some such in a row."""
        if job.device is not None:
            self._strikes.pop(job.device, None)
        if (failed := job.failed_on) is None or failed in self.drained:
            return
        self._strikes[failed] += 1
        if self._strikes[failed] >= STRIKES:
            self.drain(failed, f"{STRIKES} jobs in a row failed on it and succeeded elsewhere")
