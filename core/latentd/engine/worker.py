"""The thread of one device: runs jobs one after another and survives all their exceptions."""

from __future__ import annotations

import gc
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from latentd.engine.job import AnyJob, JobCancelled, JobStatus
from latentd.errors import Interrupted, LatentdError, OutOfMemory
from latentd.models.allocator import give_back_memory
from latentd.models.devices import is_out_of_memory

log = logging.getLogger(__name__)


class Employer(Protocol):
    """The part of the engine that a worker uses."""

    def take(self, device: str, loaded: str | None) -> list[AnyJob]:
        """The next job for ``device``, and those that run together with it; empty if the engine has been closed.

        :param loaded: the model that the device has in memory.
        """

    def end(
        self,
        job: AnyJob,
        status: JobStatus,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Record that the job has ended, wake all that wait for it, and keep or drop its result."""


class Worker(threading.Thread):
    """The only thread that uses torch on ``device``.

    :param engine: the engine whose jobs it runs.
    :param device: name of the device.
    :param prepare: called once, before the first job.
    :param cleanup: called after each job.
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
            # The variable would keep the jobs in memory while the worker waits for the next one.
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

    def _carry_out(self, job: AnyJob) -> None:
        error: BaseException | None = None
        result: object = None
        begun = time.perf_counter()
        try:
            result = job.run()
        except BaseException as raised:  # SystemExit from a plugin must not end the worker
            error = raised
        self._conclude(job, result, error, time.perf_counter() - begun)

    def _carry_out_together(self, jobs: list[AnyJob]) -> None:
        begun = time.perf_counter()
        share = jobs[0].share
        assert share is not None
        log.info("%s share their batches", ", ".join(job.id for job in jobs))

        def conclude(job: AnyJob, result: object, error: BaseException | None) -> None:
            self._conclude(job, result, error, time.perf_counter() - begun)

        try:
            share.work(jobs, conclude)
        except BaseException as raised:
            for job in jobs:
                if not job.ended:
                    conclude(job, None, raised)

    def _conclude(self, job: AnyJob, result: object, error: BaseException | None, seconds: float) -> None:
        """End ``job`` with its result or error."""
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
            # Errors of latentd are for the client; for all others the log has the traceback.
            expected = isinstance(error, LatentdError) and error.status < 500
            log.log(logging.INFO if expected else logging.ERROR, "%s failed: %s", job.id, error if expected else trace)
            self._engine.end(job, "failed", error=error)
            if isinstance(error, OutOfMemory):
                gc.collect()
                give_back_memory()
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
    """Exclude all present objects from garbage collection.

    With torch, diffusers and transformers imported, a full collection stops the interpreter, and so every request, for
    0.2 s (425,000 objects). Modules and classes are never freed, so this is done once, after the imports and before any
    model exists; models can still be collected.
    """
    gc.collect()
    gc.freeze()


def _named(error: BaseException) -> BaseException:
    """``error``, or :class:`OutOfMemory` if lack of memory caused it, also within a plugin."""
    seen: BaseException | None = error
    while seen is not None:
        if is_out_of_memory(seen):
            named = OutOfMemory(f"out of memory: {str(seen)[:300] or type(seen).__name__}")
            named.__cause__ = error
            return named
        seen = seen.__cause__
    return error


def _drop_frames(error: BaseException) -> None:
    """Remove the tracebacks of ``error`` and its causes, because their frames keep the failed job's tensors."""
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
