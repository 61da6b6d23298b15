"""The thread of one device: runs jobs one after another and outlives whatever they raise."""

from __future__ import annotations

import gc
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from latentd.engine.job import Job, JobCancelled, JobStatus
from latentd.errors import Interrupted, LatentdError, OutOfMemory
from latentd.models.devices import is_out_of_memory
from latentd.models.free_memory import give_back

log = logging.getLogger(__name__)


class Employer(Protocol):
    """What a worker asks of the engine that it works for."""

    def take(self, device: str, loaded: str | None) -> list[Job[Any]]:
        """The next job for ``device``, with those that share its batches; empty when the engine has closed.

        :param loaded: the model that the device has in memory.
        """

    def end(
        self,
        job: Job[Any],
        status: JobStatus,
        *,
        result: Any = None,
        error: BaseException | None = None,
        trace: str | None = None,
    ) -> None:
        """The job has ended: wake everybody who waits for it, and keep or drop what came of it."""


class Worker(threading.Thread):
    """Owns torch for ``device``.

    :param prepare: called once, before the first job. :param cleanup: called after each job.
    """

    def __init__(
        self,
        engine: Employer,
        device: str,
        *,
        prepare: Callable[[], None] | None = None,
        cleanup: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name=f"latentd-{device}", daemon=True)
        self.device = device
        self._engine = engine
        self._prepare = prepare
        self._cleanup = cleanup

    def run(self) -> None:
        """Take jobs until the engine closes."""
        loaded: str | None = None
        while jobs := self._engine.take(self.device, loaded):
            self._prepare_once()
            loaded = jobs[0].model_key or loaded
            if len(jobs) == 1:
                self._carry_out(jobs[0])
            else:
                self._carry_out_together(jobs)
            # The loop variable would keep the jobs alive while the worker waits for the next one.
            del jobs
            self._tidy()

    def _prepare_once(self) -> None:
        prepare, self._prepare = self._prepare, None
        if prepare is None:
            return
        try:
            prepare()
        except Exception:
            log.exception("preparing the worker of %s failed", self.device)
        freeze_heap()

    def _carry_out(self, job: Job[Any]) -> None:
        error: BaseException | None = None
        result: Any = None
        begun = time.perf_counter()
        try:
            result = job.run()
        except BaseException as raised:  # SystemExit from a plugin must not end the worker
            error = raised
        self._conclude(job, result, error, time.perf_counter() - begun)

    def _carry_out_together(self, jobs: list[Job[Any]]) -> None:
        begun = time.perf_counter()
        share = jobs[0].share
        assert share is not None
        log.info("%s share their batches", ", ".join(job.id for job in jobs))

        def conclude(job: Job[Any], result: Any, error: BaseException | None) -> None:
            self._conclude(job, result, error, time.perf_counter() - begun)

        try:
            share.work(jobs, conclude)
        except BaseException as raised:
            for job in jobs:
                if not job.ended:
                    conclude(job, None, raised)

    def _conclude(self, job: Job[Any], result: Any, error: BaseException | None, seconds: float) -> None:
        """End ``job`` with what came of it."""
        trace = None
        if error is not None:
            error = _named(error)
            trace = "".join(traceback.format_exception(error))
            _drop_frames(error)
        if job.cancel_requested:
            log.info("%s cancelled after %.2f s", job.id, seconds)
            self._engine.end(job, "cancelled", error=JobCancelled(f"{job.id} was cancelled"))
        elif isinstance(error, Interrupted):
            log.info("%s interrupted after %.2f s", job.id, seconds)
            nothing = JobCancelled(f"{job.id} was interrupted before it had anything to return")
            self._engine.end(job, "cancelled", error=nothing)
        elif error is not None:
            # What latentd raises on purpose is the client's business; anything else wants its traceback in the log.
            expected = isinstance(error, LatentdError) and error.status < 500
            log.log(logging.INFO if expected else logging.ERROR, "%s failed: %s", job.id, error if expected else trace)
            self._engine.end(job, "failed", error=error, trace=trace)
            if isinstance(error, OutOfMemory):
                give_back()
        else:
            log.info("%s completed in %.2f s", job.id, seconds)
            self._engine.end(job, "completed", result=result)

    def _tidy(self) -> None:
        if self._cleanup is None:
            return
        try:
            self._cleanup()
        except Exception:
            log.exception("cleaning up after a job failed")


def freeze_heap() -> None:
    """Take everything alive out of the garbage collector's sight.

    With torch, diffusers and transformers imported a full collection holds the interpreter for 0.2 s (425,000
    objects), and every request with it. Modules and classes never die, so it is done once, after the imports and
    before any model exists: models stay collectable.
    """
    gc.collect()
    gc.freeze()


def _named(error: BaseException) -> BaseException:
    """``error``, or :class:`OutOfMemory` where that is what it comes from, perhaps through a plugin."""
    seen: BaseException | None = error
    while seen is not None:
        if is_out_of_memory(seen):
            named = OutOfMemory(f"out of memory: {str(seen)[:300] or type(seen).__name__}")
            named.__cause__ = error
            return named
        seen = seen.__cause__
    return error


def _drop_frames(error: BaseException) -> None:
    """Cut the tracebacks of ``error`` and its causes: their frames hold the tensors of the failed job."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        pending += [one.__cause__, one.__context__]
        one.__cause__ = one.__context__ = None
