"""The waiting jobs: first in, first out, but a job whose model is loaded may go first, within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from latentd.engine.job import Job


class JobQueue:
    """A bounded queue of jobs. Not locked: the engine holds its own lock around every call.

    :param limit: the most jobs that may wait.
    :param max_overtakes: how often one waiting job may be passed by later ones; 0 is strict order.
    """

    def __init__(self, *, limit: int, max_overtakes: int) -> None:
        self.limit = limit
        self.max_overtakes = max_overtakes
        self._jobs: deque[Job[Any]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self._jobs)

    @property
    def full(self) -> bool:
        """True when no further job may be pushed."""
        return len(self._jobs) >= self.limit

    def push(self, job: Job[Any]) -> None:
        """Put ``job`` last; the caller has looked at :attr:`full`."""
        self._jobs.append(job)

    def remove(self, job: Job[Any]) -> bool:
        """Take ``job`` out; False if it was not waiting."""
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        return True

    def position(self, job: Job[Any]) -> int:
        """1 for the first, and so on; 0 if ``job`` is not waiting."""
        for place, waiting in enumerate(self._jobs, start=1):
            if waiting is job:
                return place
        return 0

    def pop(self, loaded: str | None = None) -> Job[Any] | None:
        """The job to run next, taken out; None when nothing waits.

        :param loaded: the ``model_key`` that the asking worker has loaded. When the first job needs another model, the
            first that needs this one goes before it, unless that would pass some job more than ``max_overtakes`` times.
        """
        if not self._jobs:
            return None
        place = self._preferred(loaded)
        for passed in range(place):
            self._jobs[passed].overtaken += 1
        job = self._jobs[place]
        del self._jobs[place]
        return job

    def company(self, job: Job[Any], limit: float) -> list[Job[Any]]:
        """The waiting jobs to be carried out together with ``job``, which is out already; taken out, oldest first.

        None is waited for. A job that they go before counts as overtaken once for each, within ``max_overtakes``.

        :param limit: the most that all of them together, ``job`` included, may be large.
        """
        if job.share is None:
            return []
        room, found, passed = limit - job.share.size, [], []
        for waiting in self._jobs:
            if room <= 0:
                break
            share = waiting.share
            if share is None or share.size > room or share.key != job.share.key:
                passed.append(waiting)
                continue
            if any(other.overtaken >= self.max_overtakes for other in passed):
                break
            for other in passed:
                other.overtaken += 1
            room -= share.size
            found.append(waiting)
        for taken in found:
            self._jobs.remove(taken)
        return found

    def _preferred(self, loaded: str | None) -> int:
        if loaded is None or self._jobs[0].model_key in (None, loaded):
            return 0
        for place, job in enumerate(self._jobs):
            if job.model_key == loaded:
                return place
            if job.overtaken >= self.max_overtakes:
                return 0
        return 0
