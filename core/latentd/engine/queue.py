"""The waiting jobs: first in, first out, but a job whose model is loaded may overtake others within a bound."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

from latentd.engine.job import AnyJob
from latentd.errors import QueueFull


class JobQueue:
    """A bounded queue of jobs. It has no lock: the engine holds its own lock around every call.

    :param limit: greatest number of jobs that may wait.
    :param max_overtakes: how often a waiting job may be overtaken by later ones; 0 for strict order.
    """

    def __init__(self, *, limit: int, max_overtakes: int) -> None:
        self.limit = limit
        self.max_overtakes = max_overtakes
        self._jobs: deque[AnyJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[AnyJob]:
        return iter(self._jobs)

    @property
    def full(self) -> bool:
        """Whether no further job may be added."""
        return len(self._jobs) >= self.limit

    def refusal(self, durations: Collection[float], places: int) -> QueueFull:
        """The error for a further job, which says when there may be room.

        :param durations: how long the last jobs took, in seconds. :param places: how many of them run at a time.
        """
        usual = sum(durations) / len(durations) if durations else 5.0
        wait = min(max(math.ceil(usual / places), 1), 120)
        return QueueFull(
            f"the queue is full: {len(self)} jobs are waiting", retry_after=wait, hint=f"try again in {wait} s"
        )

    def push(self, job: AnyJob) -> None:
        """Add ``job`` at the end; the caller must have checked :attr:`full`."""
        self._jobs.append(job)

    def remove(self, job: AnyJob) -> bool:
        """Remove ``job``; returns False if it was not waiting."""
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        return True

    def move(self, job: AnyJob, place: int) -> bool:
        """Move ``job`` to ``place``, 1 for the first, or to the end; returns False if it was not waiting."""
        if not self.remove(job):
            return False
        self._jobs.insert(max(place, 1) - 1, job)
        return True

    def position(self, job: AnyJob) -> int:
        """The place of ``job``, 1 for the first; 0 if it is not waiting."""
        for place, waiting in enumerate(self._jobs, start=1):
            if waiting is job:
                return place
        return 0

    def push_first(self, job: AnyJob) -> None:
        """Put ``job``, which has been taken before, in front of all others."""
        self._jobs.appendleft(job)

    def pop(self, loaded: Collection[str] = (), allowed: Callable[[AnyJob], bool] | None = None) -> AnyJob | None:
        """Remove and return the job to run next; None if none waits.

        :param loaded: the ``model_key`` of each model that the worker has in memory. If the first job needs another
            one, the first job that needs one of these overtakes it, unless a job would be overtaken more than
            ``max_overtakes`` times.
        :param allowed: which jobs the worker may take; the others are left where they are, and not overtaken by this.
        """
        first: AnyJob | None = None
        passed: list[AnyJob] = []
        for job in self._jobs:
            if allowed is not None and not allowed(job):
                continue
            if job.model_key in loaded or (first is None and (not loaded or job.model_key is None)):
                return self._taken(job, passed)
            first = first or job
            if job.overtaken >= self.max_overtakes:
                break
            passed.append(job)
        return None if first is None else self._taken(first, [])

    def _taken(self, job: AnyJob, passed: Sequence[AnyJob]) -> AnyJob:
        for other in passed:
            other.overtaken += 1
        self._jobs.remove(job)
        return job

    def take_sharing(self, job: AnyJob, limit: float) -> list[AnyJob]:
        """Remove and return the waiting jobs that can run together with ``job``, which has been removed; oldest first.

        It does not wait for further jobs. A job counts as overtaken once for each of them, within ``max_overtakes``.

        :param limit: greatest size of all of them together, including ``job``.
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
