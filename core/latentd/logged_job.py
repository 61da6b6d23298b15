"""Which job a log record is about: that of the record's own, or the one at work on its thread."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_AT_WORK: ContextVar[str | None] = ContextVar("job", default=None)


@contextmanager
def at_work(job_id: str) -> Iterator[None]:
    """Within it records of this thread are about the job."""
    token = _AT_WORK.set(job_id)
    try:
        yield
    finally:
        _AT_WORK.reset(token)


def job_of(record: logging.LogRecord) -> str | None:
    """The job's id: ``extra={"job": id}`` of the call, else that of :func:`at_work`; on the thread that logs."""
    return getattr(record, "job", None) or _AT_WORK.get()
