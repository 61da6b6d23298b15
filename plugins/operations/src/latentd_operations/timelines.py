"""The timeline of every job: when it was handed in, began, sampled, and ended."""

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
    """What has happened to one job, in Unix time. Of a job that is tried again elsewhere, it is the last try.

    :ivar sampling: when it began to sample. :ivar sampled: when its last pass of sampling ended.
    :ivar stage: what its document says that it is at.
    """

    created: float
    started: float | None = None
    sampling: float | None = None
    sampled: float | None = None
    finished: float | None = None
    stage: str | None = None

    def reach(self, stage: str | None, now: float) -> None:
        """Note that the job is at ``stage``."""
        if stage == "sample" and self.sampling is None:
            self.sampling = now
        if stage != "sample" and self.stage == "sample":
            self.sampled = now
        self.stage = stage

    def stages(self) -> Iterator[tuple[str, float, float]]:
        """Name, beginning and end of each stage of a job that has ended.

        They are ``queue``, ``prepare`` (models, texts, init pictures), ``sample`` (from the first pass of sampling to
        the last, with what is decoded in between) and ``finish`` (decoding, saving). Work that is no generation has
        ``queue`` alone. The last stage of a job that did not complete is the one in which it ended.
        """
        assert self.finished is not None
        yield "queue", self.created, self.finished if self.started is None else self.started
        if self.started is None or self.stage is None:
            return
        yield "prepare", self.started, self.finished if self.sampling is None else self.sampling
        if self.sampling is None:
            return
        sampled = self.finished if self.stage == "sample" or self.sampled is None else self.sampled
        yield "sample", self.sampling, sampled
        if self.stage != "sample":
            yield "finish", sampled, self.finished


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
            if event != "queued":
                timeline.reach(data["stage"], now)
        return timeline
