"""The timeline of every job: when it was handed in, began, took its first and its last step, and ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from latentd.api import JsonValue

ENDS = frozenset(("completed", "failed", "cancelled"))
"""The events with which jobs end."""
#: Jobs that are followed at once; those of a queue that is at its bound are fewer.
_FOLLOWED = 10_000


@dataclass(slots=True, kw_only=True)
class Timeline:
    """What has happened to one job, in Unix time. Of a job that is tried again elsewhere, it is the last try."""

    created: float
    started: float | None = None
    first: float | None = None
    last: float | None = None
    finished: float | None = None

    def stages(self, *, completed: bool) -> Iterator[tuple[str, float, float]]:
        """Name, beginning and end of each stage of a job that has ended.

        They are ``queue``, ``prepare`` (models, texts, up to the first step), ``sample`` (to the last step) and
        ``finish`` (decoding, saving). Work without steps has ``queue`` alone. Of a job that did not complete it is not
        known whether its last step was the one it was to end with: its ``sample`` lasts to the job's end.
        """
        assert self.finished is not None
        yield "queue", self.created, self.finished if self.started is None else self.started
        if self.started is None or self.first is None or self.last is None:
            return
        yield "prepare", self.started, self.first
        yield "sample", self.first, self.last if completed else self.finished
        if completed:
            yield "finish", self.last, self.finished


class Timelines:
    """The timelines of the jobs that run."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, float], Timeline] = {}
        self._lock = threading.Lock()

    def follow(self, job_id: str, event: str, data: Mapping[str, JsonValue]) -> Timeline:
        """The timeline of a job up to this event; on the thread where it happens.

        That a job is queued may be told after its start, or even its end.
        """
        now = time.time()
        # A client may use an id again once its job has ended.
        key = (job_id, float(data["created"]))
        with self._lock:
            if event == "started":
                timeline = Timeline(created=data["created"], started=data["started"])
                if len(self._running) < _FOLLOWED:
                    self._running[key] = timeline
                return timeline
            timeline = self._running.get(key) or Timeline(created=data["created"])
            if event in ENDS:
                self._running.pop(key, None)
                timeline.finished = data["finished"]
            elif event == "progress" and data["step"]:
                timeline.first = timeline.first or now
                timeline.last = now
        return timeline
