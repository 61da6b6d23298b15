"""One job: its work, its progress, how it is stopped, and its result."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from latentd.engine.preview import preview_due
from latentd.errors import Conflict, Gone, Interrupted, LatentdError
from latentd.types import JsonValue, OptionValues, ProgressState, StopKind

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

T = TypeVar("T")

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
ENDED: frozenset[JobStatus] = frozenset(("completed", "failed", "cancelled"))

#: Seconds after a request for a preview during which further previews are made.
WATCH_SECONDS = 15.0

#: Most warnings of a job; a hostile prompt could cause any number.
MAX_WARNINGS = 50
MAX_WARNING_LENGTH = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

#: AUTOMATIC1111's text ``state.job`` at the start of a job, if it differs from the job's kind.
STATE_NAMES = {"txt2img": "scripts_txt2img", "img2img": "scripts_img2img"}


#: Guards the callbacks of every job; held for an append or a swap only. A lock for each would outlive its use by far.
_ENDING = threading.Lock()

#: Ends one job with its result, or with the exception that it raised.
Conclude = Callable[["AnyJob", object, BaseException | None], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """One job's part in shared work.

    Jobs with equal ``key`` may be passed to one ``work(jobs, conclude)``, which concludes each job as soon as it has
    ended; the sum of their ``size`` stays within the engine's limit. ``content`` is the part of this job that ``work``
    needs.
    """

    key: object
    size: float
    content: object
    work: Callable[[Sequence[AnyJob], Conclude], None]


class JobCancelled(Conflict):
    """The job was cancelled, or interrupted before it had a result."""


def _unheard(job: AnyJob, event: str) -> None:
    """Publishes nothing."""


def _nowhere(job: AnyJob) -> int:
    """The position of a job in no queue."""
    return 0


class Job(Generic[T]):
    """Work in the queue; created by ``Engine.submit`` and passed to the work as its ``JobControl``.

    ``created``, ``started`` and ``finished`` are Unix times. ``quiet`` jobs (loading a model, for example) leave
    AUTOMATIC1111's global state as it is. ``overtaken`` counts how often a later job ran first. ``device`` is known
    once it runs; ``wanted_device`` is the only one on which it may run, if any, and ``failed_on`` the one that failed
    with it before. ``share`` is None if the job cannot run together with others, and when it has ended. ``parts`` are
    the jobs that do the work of a divided job while it runs; each is ``is_part``, which only the engine sees.
    The result of an ``awaited`` job is kept for the first :meth:`wait`, however soon results expire.
    """

    def __init__(
        self,
        work: Callable[[Job[T]], T],
        *,
        id: str,
        kind: str,
        meta: Mapping[str, JsonValue] | None = None,
        model_key: str | None = None,
        quiet: bool = False,
        share: Share | None = None,
        awaited: bool = False,
        device: str | None = None,
        is_part: bool = False,
        publish: Callable[[AnyJob, str], None] = _unheard,
        position: Callable[[AnyJob], int] = _nowhere,
    ) -> None:
        self.id = id
        self.kind = kind
        self.meta: Mapping[str, JsonValue] = dict(meta or {})
        self.model_key = model_key
        self.quiet = quiet
        self.share = share
        self.status: JobStatus = "queued"
        self.progress = ProgressState()
        self.created = time.time()
        self.started: float | None = None
        self.finished: float | None = None
        self.device: str | None = None
        self.wanted_device = device
        self.failed_on: str | None = None
        self.overtaken = 0
        self.parts: tuple[AnyJob, ...] = ()
        self.is_part = is_part
        self.result: T | None = None
        self.error: BaseException | None = None
        self.expired = False
        self._awaited = awaited
        self._watched_at = float("-inf")
        self._work: Callable[[Job[T]], T] | None = work
        self._publish = publish
        self._position = position
        self._cancelled = False
        self._reported: tuple[object, ...] = ()
        self._callbacks: tuple[Callable[[Job[T]], None], ...] = ()

    def __str__(self) -> str:
        return f"{self.id} (part)" if self.is_part else self.id

    # --- read by anyone ----------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the job is completed, failed or cancelled."""
        return self.status in ENDED

    @property
    def position(self) -> int:
        """The place in the queue, 1 for the next job; 0 if it is not waiting."""
        return self._position(self) if self.status == "queued" else 0

    @property
    def cancel_requested(self) -> bool:
        """Whether the job has been cancelled."""
        return self._cancelled

    @property
    def watched(self) -> bool:
        """Whether a client has asked for a preview recently."""
        return time.monotonic() - self._watched_at < WATCH_SECONDS

    def watch(self) -> None:
        """Record that a client asks for a preview, so that expensive previews are made for a while."""
        self._watched_at = time.monotonic()
        for part in self.parts:
            part.watch()

    def outcome(self) -> T:
        """The result of the work.

        :raises Gone: the result has expired.
        :raises Conflict: the job has not ended, or was cancelled.
        :raises Exception: a copy of the work's exception, so that it keeps no caller's frames in memory.
        """
        if self.error is not None:
            raise _fresh(self.error)
        if not self.ended:
            raise Conflict(f"{self.id} is {self.status}", hint="ask again when the job has ended")
        if self.expired:
            raise Gone(f"the result of {self.id} has expired", hint="results are kept for a time and a total size")
        return self.result  # type: ignore[return-value]

    async def wait(self) -> T:
        """Wait for the end of the job without blocking a thread; returns :meth:`outcome`.

        Cancelling this coroutine does not cancel the job.

        :raises Exception: as :meth:`outcome`, but never because the result has expired.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T | None] = loop.create_future()

        def settle(result: T | None) -> None:
            if not ended.done():
                ended.set_result(result)

        def tell(job: Job[T]) -> None:
            with suppress(RuntimeError):  # the loop was closed while the job ran, so nothing waits for it
                loop.call_soon_threadsafe(settle, job.result)

        self.add_done_callback(tell)
        try:
            result = await ended
        finally:
            self._remove_done_callback(tell)
            self._awaited = False
            if self.expired:
                self.result = None
        if self.error is not None:
            raise _fresh(self.error)
        return result if result is not None else self.outcome()

    def join(self, timeout: float | None = None) -> T:
        """Block this thread until the job has ended; returns :meth:`outcome`. For callers without an event loop.

        :raises TimeoutError: ``timeout`` seconds went by.
        """
        ended = threading.Event()
        self.add_done_callback(lambda job: ended.set())
        if not ended.wait(timeout):
            raise TimeoutError(f"{self.id} has not ended after {timeout} s")
        return self.outcome()

    def add_done_callback(self, callback: Callable[[Job[T]], None]) -> None:
        """Call ``callback(job)`` when the job ends, on the thread that ends it; at once if it has ended."""
        with _ENDING:
            if not self.ended:
                self._callbacks = (*self._callbacks, callback)
                return
        callback(self)

    def _remove_done_callback(self, callback: Callable[[Job[T]], None]) -> None:
        with _ENDING:
            self._callbacks = tuple(kept for kept in self._callbacks if kept is not callback)

    # --- stopping, from any thread -----------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop sampling at the next denoiser call and return what has been made; affects running jobs only."""
        if self.status == "running":
            for job in (self, *self.parts):
                job.progress.interrupted = True

    def skip(self) -> None:
        """End the present batch; affects running jobs only."""
        if self.status == "running":
            for job in (self, *self.parts):
                job.progress.skipped = True

    def request_cancel(self) -> None:
        """Make the job end as cancelled, without a result. ``Engine.cancel`` also removes it from the queue."""
        self._cancelled = True
        for part in self.parts:
            part.request_cancel()

    # --- JobControl: used by the work on the worker ------------------------------------------------------------------

    def check(self) -> None:
        """Raise ``Interrupted`` if the job should stop, for whatever reason; publish the progress if it moved."""
        self.report()
        stop = self.stop_requested()
        if stop is not None:
            raise Interrupted(f"{self.id}: {stop}")

    def report(self) -> None:
        """Publish the progress if it moved."""
        state = self.progress
        mark = (state.job, state.job_no, state.sampling_step, state.preview_id, state.stage)
        if mark != self._reported:
            self._reported = mark
            self._publish(self, "progress")

    def stop_requested(self) -> StopKind | None:
        """Why the work should stop, or None."""
        if self._cancelled:
            return "cancel"
        if self.progress.interrupted or self.progress.stopping_generation:
            return "interrupt"
        return "skip" if self.progress.skipped else None

    def begin_batch(self) -> bool:
        """Whether a further batch is wanted; resets a pending skip.

        :raises Interrupted: the job was cancelled.
        """
        self.progress.skipped = False
        stop = self.stop_requested()
        if stop == "cancel":
            raise Interrupted(f"{self.id}: cancel")
        return stop is None

    def preview_due(self, options: OptionValues, *, batch_end: bool = False) -> bool:
        """Whether a preview of the present step should be decoded."""
        return preview_due(self.progress, options, batch_end=batch_end, watched=self.watched)

    def set_preview(self, image: Image) -> None:
        """Show ``image`` as the latest preview."""
        self.progress.preview = image
        self.progress.preview_step = self.progress.sampling_step
        self.progress.preview_id += 1

    def warn(self, message: str) -> None:
        """Log ``message`` on one line, cut if it is long, and add it to the answer's warnings unless it is there."""
        message = _CONTROL.sub(" ", message)[:MAX_WARNING_LENGTH]
        said = self.progress.warnings
        if message not in said and len(said) < MAX_WARNINGS:
            self.progress.warnings = (*said, message)
            log.warning("%s: %s", self.id, message, extra={"job": self.id})

    # --- used by the engine ------------------------------------------------------------------------------------------

    def begin(self, device: str, last_sampling_steps: int) -> None:
        """Start the job on ``device``.

        As in AUTOMATIC1111, the step count of the last job is shown until sampling sets it.
        """
        state = self.progress
        state.started_at = time.monotonic()
        state.job_timestamp = time.strftime("%Y%m%d%H%M%S")
        state.sampling_steps = last_sampling_steps
        state.job = STATE_NAMES.get(self.kind, self.kind)
        state.job_count = -1
        self.device = device
        self.started = time.time()
        self.status = "running"

    @property
    def work(self) -> Callable[[Job[T]], T]:
        """What is to be done.

        :raises RuntimeError: the job has ended.
        """
        if self._work is None:
            raise RuntimeError(f"{self.id} has ended")
        return self._work

    def put_back(self, failed_on: str | None) -> None:
        """Let the job wait again; only its warnings are kept.

        :param failed_on: the place that failed while it ran there; None if it had not begun.
        """
        self.progress = ProgressState(warnings=self.progress.warnings, interrupted=self.progress.interrupted)
        self.failed_on = failed_on or self.failed_on
        self.device = self.started = None
        self._reported = ()
        self.status = "queued"

    def end(
        self,
        status: JobStatus,
        *,
        result: T | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Set the end of the job, wake all that wait for it, and drop the work with everything to which it refers.

        An ended job is remembered for a long time and keeps nothing except what its document shows.
        """
        state = self.progress
        state.job, state.job_count, state.preview = "", 0, None
        self._work = self.share = None
        self.parts = ()
        self._publish, self._position, self._reported = _unheard, _nowhere, ()
        with _ENDING:
            self.result, self.error = result, error
            self.finished = time.time()
            self.status = status
            callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback(self)

    def expire(self) -> None:
        """Drop the result, at once or when its waiter has it; :meth:`outcome` raises ``Gone`` from now on."""
        self.expired = self.result is not None or self.expired
        if not self._awaited:
            self.result = None


AnyJob: TypeAlias = Job[Any]
"""A job among others, each with a result of a type of its own."""


def _fresh(error: BaseException) -> BaseException:
    """A copy of ``error`` without traceback, because each time ``error`` itself is raised its traceback grows."""
    try:
        twin = type(error).__new__(type(error), *error.args)
    except TypeError:
        return LatentdError(f"{type(error).__name__}: {error}")
    twin.__dict__.update(error.__dict__)
    return twin
