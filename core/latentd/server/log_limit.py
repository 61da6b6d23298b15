"""A limit on log lines that clients can cause in any number, so that they cannot fill the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_SECONDS = 60.0
KINDS = 256


class LogLimit(logging.Filter):
    """Lets each kind of line (its text without the values) pass once a minute, with the number of those left out.

    Errors with a traceback always pass: they are faults of the server, and each may be a different one.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, *, every: float = EVERY_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every = every
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is written."""
        if record.exc_info:
            return True
        kind, now = str(record.msg), self._clock()
        last, left_out = self._seen.get(kind, (float("-inf"), 0))
        if now - last < self._every:
            self._seen[kind] = last, left_out + 1
            return False
        if len(self._seen) >= KINDS:
            self._seen.clear()
        self._seen[kind] = now, 0
        if left_out:
            record.msg = f"{kind} ({left_out} more of these before)"
        return True
