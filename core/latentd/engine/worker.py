"""The thread of one place: runs jobs one after another and survives all their exceptions."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol, cast

from latentd.engine.job import AnyJob, JobCancelled, JobStatus
from latentd.errors import DeviceLost, Interrupted, LatentdError, OutOfMemory
from latentd.executors import DeviceTrouble, Runner
from latentd.logged_job import at_work
from latentd.models.allocator import give_back_memory
from latentd.models.devices import is_out_of_memory
from latentd.types import JobControl

log = logging.getLogger(__name__)

#: How long a worker busy in Python may keep the interpreter from the event loop. With Python's 5 ms, a worker that
#: never leaves Python doubles to triples the time of a GET; with this it takes 1.2 to 1.5 times an idle server's.
SWITCH_SECONDS = 0.0005


def switch_threads_often() -> None:
    """Let the event loop have the interpreter soon, whatever the workers of this process do."""
    sys.setswitchinterval(SWITCH_SECONDS)


class Employer(Protocol):
    """The part of the engine that a worker uses."""

    def take(self, worker: Worker) -> list[AnyJob]:
        """The next job for ``worker``, and those that run together with it; empty if it should end."""

    def end(
        self,
        job: AnyJob,
        status: JobStatus,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Record that the job has ended, wake all that wait for it, and keep or drop its result."""

    def try_elsewhere(self, job: AnyJob, trouble: DeviceTrouble) -> bool:
        """Whether the job, with which its device failed, waits for another device now. It may be drained for it."""

    def models_kept(self) -> int:
        """How many models a device keeps in memory."""


class Worker(threading.Thread):
    """The thread that carries out jobs on one place; the only one that uses torch on a device of this process.

    :param engine: the engine whose jobs it runs.
    :param runner: the place.
    """

    def __init__(self, engine: Employer, runner: Runner) -> None:
        super().__init__(name=f"latentd-{runner.name}", daemon=True)
        self.runner = runner
        self._loaded: tuple[str, ...] = ()
        self._engine = engine
        self._prepared = False

    @property
    def device(self) -> str:
        """The name of the place."""
        return self.runner.name

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that the place has in memory, the last used first."""
        return self._loaded

    @property
    def ready(self) -> bool:
        """Whether the place can begin a job at once; before its first job it is taken to be so."""
        return not self._prepared or self.runner.ready

    def run(self) -> None:
        """Take jobs until the engine closes or the place is drained."""
        while jobs := self._engine.take(self):
            try:
                self._prepare_once()
            except DeviceTrouble as trouble:
                self._refuse(jobs, trouble)
                continue
            if key := jobs[0].model_key:
                self._loaded = (key, *(other for other in self._loaded if other != key))[: self._engine.models_kept()]
            if len(jobs) == 1:
                self._carry_out(jobs[0])
            else:
                self._carry_out_together(jobs)
            # The variable would keep the jobs in memory while the worker waits for the next one.
            del jobs
            if not self.runner.ready:
                self._loaded = ()
            self.runner.tidy()

    def _prepare_once(self) -> None:
        if self._prepared:
            return
        try:
            self.runner.prepare()
        except DeviceTrouble:
            raise
        except Exception as error:
            log.exception("preparing %s failed", self.device)
            raise DeviceTrouble(f"{type(error).__name__}: {error}", lasting=True) from error
        self._prepared = True

    def _refuse(self, jobs: list[AnyJob], trouble: DeviceTrouble) -> None:
        log.error("%s cannot be used: %s", self.device, trouble)
        for job in jobs:
            if not self._engine.try_elsewhere(job, trouble):
                self._engine.end(job, "failed", error=DeviceLost(f"{self.device} cannot be used: {trouble}"))

    def _carry_out(self, job: AnyJob) -> None:
        error: BaseException | None = None
        result: object = None
        begun = time.perf_counter()
        try:
            # The core's own work may use more of its job than a plugin's runner knows of; it gets this very job.
            with at_work(job.id):
                result = self.runner.run(job, cast("Callable[[JobControl], object]", job.work))
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
            with at_work(", ".join(job.id for job in jobs)):
                share.work(jobs, conclude)
        except BaseException as raised:
            for job in jobs:
                if job.status == "running" and job.device == self.device:
                    conclude(job, None, raised)

    def _conclude(self, job: AnyJob, result: object, error: BaseException | None, seconds: float) -> None:
        """End ``job`` with its result or error."""
        with at_work(job.id):
            self._end(job, result, error, seconds)

    def _end(self, job: AnyJob, result: object, error: BaseException | None, seconds: float) -> None:
        trace = None
        if error is not None:
            error = named(error)
            trace = "".join(traceback.format_exception(error))
            trouble = self.runner.diagnose(error)
            _drop_frames(error)
            if trouble is not None:
                gc.collect()
                give_back_memory()
                if self._engine.try_elsewhere(job, trouble):
                    return
        if job.cancel_requested:
            log.info("%s cancelled after %.2f s", job, seconds)
            self._engine.end(job, "cancelled", error=JobCancelled(f"{job.id} was cancelled"))
        elif isinstance(error, Interrupted):
            log.info("%s interrupted after %.2f s", job, seconds)
            nothing = JobCancelled(f"{job.id} was interrupted before it had anything to return")
            self._engine.end(job, "cancelled", error=nothing)
        elif error is not None:
            # Errors of latentd are for the client; for all others the log has the traceback.
            expected = isinstance(error, LatentdError) and error.status < 500
            log.log(logging.INFO if expected else logging.ERROR, "%s failed: %s", job, error if expected else trace)
            self._engine.end(job, "failed", error=error)
        else:
            log.info("%s completed in %.2f s", job, seconds)
            self._engine.end(job, "completed", result=result)


def named(error: BaseException) -> BaseException:
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
