"""Keeping results for a time, up to a total size and up to a number of jobs."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from latentd.engine.job import AnyJob

_BYTE_MODES = frozenset(("1", "L", "P"))


class ResultStore:
    """Ended jobs, oldest first. It has no lock: the engine holds its own lock around every call.

    :param ttl: seconds for which a result is kept.
    :param max_bytes: total size of the kept results; the oldest are dropped first, and the newest if it is larger.
    :param max_jobs: how many ended jobs are remembered (without a result the reply is 410, for unknown jobs 404).
    """

    def __init__(self, *, ttl: float, max_bytes: int, max_jobs: int) -> None:
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.max_jobs = max_jobs
        self._kept: OrderedDict[str, tuple[AnyJob, int, float]] = OrderedDict()
        self._ended: OrderedDict[str, AnyJob] = OrderedDict()
        self._bytes = 0

    def add(self, job: AnyJob, *, now: float | None = None) -> list[str]:
        """Keep ``job``, which has ended; returns the ids of jobs that are no longer remembered."""
        now = time.monotonic() if now is None else now
        self.discard(job.id)
        self._ended[job.id] = job
        if job.result is not None:
            size = result_bytes(job.result)
            self._kept[job.id] = (job, size, now)
            self._bytes += size
        while self._bytes > self.max_bytes:
            self._expire(next(iter(self._kept)))
        self.sweep(now=now)
        forgotten = []
        while len(self._ended) > self.max_jobs:
            oldest = next(iter(self._ended))
            self.discard(oldest)
            forgotten.append(oldest)
        return forgotten

    def sweep(self, *, now: float | None = None) -> None:
        """Drop results that are older than ``ttl``."""
        now = time.monotonic() if now is None else now
        while self._kept:
            job_id, (_, _, since) = next(iter(self._kept.items()))
            if now - since < self.ttl:
                return
            self._expire(job_id)

    def next_expiry(self, *, now: float | None = None) -> float | None:
        """Seconds until :meth:`sweep` has something to drop; None if no result is kept."""
        if not self._kept:
            return None
        now = time.monotonic() if now is None else now
        _, _, since = next(iter(self._kept.values()))
        return max(0.0, since + self.ttl - now)

    def discard(self, job_id: str) -> None:
        """Remove a job; unknown ids are ignored."""
        if job_id in self._kept:
            self._expire(job_id)
        self._ended.pop(job_id, None)

    def _expire(self, job_id: str) -> None:
        job, size, _ = self._kept.pop(job_id)
        self._bytes -= size
        job.expire()


def result_bytes(result: object) -> int:
    """The approximate memory of a job's result in bytes.

    Pixels of pictures (Pillow uses four bytes for one in colour), and the lengths of texts and bytes are counted.
    """
    if isinstance(result, (bytes, bytearray, str)):
        return len(result)
    if isinstance(result, (list, tuple)):
        return 64 + sum(result_bytes(item) for item in result)
    if isinstance(result, dict):
        return 64 + sum(result_bytes(value) for value in result.values())
    images = getattr(result, "images", None)
    if images is not None:
        return result_bytes(tuple(images)) + result_bytes(getattr(result, "info", ""))
    picture: Any = getattr(result, "image", result)  # a PIL picture, without importing PIL to tell
    if hasattr(picture, "getbands"):
        width, height = picture.size
        texts = result_bytes([getattr(result, name, "") or "" for name in ("infotext", "info")])
        return int(width) * int(height) * (1 if picture.mode in _BYTE_MODES else 4) + texts
    return 64
