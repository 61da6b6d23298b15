"""The engine: queues jobs, keeps their results, and has AUTOMATIC1111's global state."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from latentd.engine.events import Event, EventBus, Subscription
from latentd.engine.job import AnyJob, Job, JobCancelled, JobStatus, Share
from latentd.engine.parts import divided
from latentd.engine.placement import Placement
from latentd.engine.progress import idle_copy, job_document
from latentd.engine.queue import JobQueue
from latentd.engine.results import ResultStore
from latentd.engine.runner import LocalRunner
from latentd.engine.task_ids import checked_task_id, free_task_id
from latentd.engine.worker import Worker, switch_threads_often
from latentd.errors import Conflict, LatentdError, NotFound
from latentd.executors import DeviceTrouble, JobObserver, Place, PlaceState, Runner
from latentd.types import JsonValue, ProgressState

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Number of finished tasks that AUTOMATIC1111 remembers for /internal/progress.
FINISHED_KEPT = 16


class ShuttingDown(LatentdError):
    """The server is stopping, so the job was not started or is not accepted."""

    status = 503


class Engine:
    """A queue of jobs, and one worker thread for each place where they run. Every method may be called on any thread.

    The threads start with the first job; only they use torch.

    :class:`latentd.engine.placement.Placement` says which place takes which job.

    :param runners: the places; by default one, the only device of this process.
    :param queue_limit: how many jobs may wait; further jobs are refused with 429.
    :param max_overtakes: how often a waiting job may be overtaken by later ones whose model is loaded.
    :param result_ttl: seconds for which results are kept after their job; after that the reply is 410.
    :param result_bytes: total size of kept results; the oldest are dropped first.
    :param observer: called with (job id, event, data) for every event, on the thread where it happens; its exceptions
        are logged.
    :param models_kept: returns how many models a place keeps in memory.
    :param share_limit: called by a worker that takes a job; returns how large all jobs that it runs together may be.
    """

    def __init__(
        self,
        *,
        runners: Sequence[Runner] | None = None,
        queue_limit: int = 512,
        max_overtakes: int = 4,
        result_ttl: float = 600.0,
        result_bytes: int = 256 << 20,
        max_ended: int = 1000,
        observer: JobObserver | None = None,
        models_kept: Callable[[], int] = lambda: 1,
        share_limit: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.events = EventBus()
        self._observer = observer
        self._share_limit = share_limit
        self._queue = JobQueue(limit=queue_limit, max_overtakes=max_overtakes)
        self._results = ResultStore(ttl=result_ttl, max_bytes=result_bytes, max_jobs=max_ended)
        self._jobs: dict[str, AnyJob] = {}
        self._running: list[AnyJob] = []
        self._finished: deque[str] = deque(maxlen=FINISHED_KEPT)
        self._durations: deque[float] = deque(maxlen=20)
        self._idle = ProgressState()
        self._closing = False
        self._started = False
        self._paused = False
        self._changed = threading.Condition()
        self._placement: Placement[Worker] = Placement(self._queue)
        self.models_kept = models_kept
        for runner in runners or [LocalRunner()]:
            self.add_runner(runner)

    def observe(self, observer: JobObserver) -> None:
        """Call ``observer`` for every event from now on."""
        self._observer = observer

    # --- the places --------------------------------------------------------------------------------------------------

    def add_runner(self, runner: Runner) -> None:
        """Let jobs run on a further place from now on.

        :raises Conflict: there is one of this name.
        """
        with self._changed:
            worker = Worker(self, runner)
            self._placement.add(worker)
            if self._started:
                worker.start()

    def remove_runner(self, name: str) -> None:
        """Let no further job begin on the place ``name``, and forget it; a job that runs there is not stopped."""
        with self._changed:
            self._placement.remove(name)
            orphans = self._placement.orphans()
            self._changed.notify_all()
        self._fail(orphans)

    def places(self) -> list[Place]:
        """The places with their states."""
        with self._changed:
            workers = self._placement.seats
        return [self._place(worker) for worker in workers]

    def _place(self, worker: Worker) -> Place:
        name = worker.device
        trouble = self._placement.drained.get(name)
        state: PlaceState = "busy" if self._placement.is_busy(worker) else "idle" if worker.ready else "starting"
        state = state if trouble is None else "drained"
        loaded = worker.loaded if trouble is None else ()
        return Place(name=name, state=state, trouble=trouble, loaded=loaded, memory=worker.runner.memory())

    def try_elsewhere(self, job: AnyJob, trouble: DeviceTrouble) -> bool:
        """Let ``job`` wait for another place because the one where it ran failed; once for each job.

        A job that had not begun may go to any. A place that is lost is drained. False if the job is to fail instead.
        """
        with self._changed:
            here = job.device or ""
            if trouble.lasting:
                self._placement.drain(here, str(trouble))
            may = self._placement.may_go_elsewhere(job) if trouble.begun else not job.cancel_requested
            again = may and trouble.retry and not self._closing
            if again:
                log.warning("%s failed on %s and is tried again: %s", job.id, here, trouble)
                self._running.remove(job)
                self._placement.left(job)
                job.put_back(here if trouble.begun else None)
                self._placement.put_first(job)
            orphans = self._placement.orphans()
            self._changed.notify_all()
        if again:
            self.publish(job, "queued")
        self._fail(orphans)
        return again

    def _fail(self, orphans: Sequence[AnyJob]) -> None:
        for job in orphans:
            self.end(job, "failed", error=self._placement.lost())

    # --- putting work in ---------------------------------------------------------------------------------------------

    def submit(
        self,
        work: Callable[[Job[T]], T],
        *,
        kind: str,
        task_id: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        model_key: str | None = None,
        quiet: bool = False,
        share: Share | None = None,
        awaited: bool = False,
        device: str | None = None,
    ) -> Job[T]:
        """Queue a job that will run ``work(job)`` on a worker; ``await job.wait()`` or ``job.join()`` gets its result.

        :param kind: ``txt2img``, ``img2img``, ``extras``, ``interrogate`` ...; part of the id and of the global state.
        :param task_id: the client's own id (``force_task_id``); None or empty for a new one.
        :param meta: values ready for JSON that are shown with the job.
        :param model_key: the model that the work needs; jobs whose model is loaded may run first.
        :param quiet: whether the job is left out of the global state and not stopped by interrupt and skip.
        :param share: allows the job to run together with waiting jobs that have the same key.
        :param awaited: whether the caller calls ``wait()`` at once; it then gets the result, even if the job ends and
            its result expires before that.
        :param device: the name of the one place where it may run.
        :raises Conflict: ``task_id`` is waiting or running.
        :raises DeviceLost: no place is left.
        :raises QueueFull: the queue is at its bound.
        :raises ShuttingDown: the engine is closing.
        """
        task_id = checked_task_id(task_id) if task_id else None
        with self._changed:
            if self._closing:
                raise ShuttingDown("the server is shutting down")
            if self._queue.full:
                raise self._queue.refusal(self._durations, len(self._placement.seats))
            if not self._placement.serves(device):
                raise self._placement.lost()
            job = Job(
                work,
                id=free_task_id(kind, task_id, self._jobs),
                kind=kind,
                meta=meta,
                model_key=model_key,
                quiet=quiet,
                share=share,
                awaited=awaited,
                device=device,
                publish=self.publish,
                position=self.position,
            )
            self._results.discard(job.id)
            self._jobs.pop(job.id, None)
            self._jobs[job.id] = job
            self._queue.push(job)
            self._start()
            self._changed.notify_all()
        self.publish(job, "queued")
        return job

    def _start(self) -> None:
        if not self._started:
            self._started = True
            switch_threads_often()
            for worker in self._placement.seats:
                worker.start()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> AnyJob:
        """The job with this id.

        :raises NotFound: there is none, or it is no longer remembered.
        """
        with self._changed:
            self._results.sweep()
            job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f"job {job_id!r} not found", hint="ended jobs are forgotten after a while")
        return job

    def jobs(self) -> list[tuple[AnyJob, int]]:
        """Every known job, oldest first, with its position (0 unless queued)."""
        with self._changed:
            self._results.sweep()
            places = {job.id: place for place, job in enumerate(self._queue, start=1)}
            return [(job, places.get(job.id, 0)) for job in self._jobs.values()]

    def position(self, job: AnyJob) -> int:
        """The place in the queue, 1 for the next job; 0 if it does not wait."""
        with self._changed:
            return self._queue.position(job)

    def pending(self) -> list[str]:
        """Ids of the waiting jobs, next first."""
        with self._changed:
            return [job.id for job in self._queue]

    def finished(self) -> list[str]:
        """Ids of the last 16 jobs that ended, oldest first."""
        with self._changed:
            return list(self._finished)

    def current(self) -> AnyJob | None:
        """The running job that started last, quiet ones left out; None if there is none."""
        with self._changed:
            return self._current()

    def _current(self) -> AnyJob | None:
        return next((job for job in reversed(self._running) if not job.quiet), None)

    def state(self) -> ProgressState:
        """AUTOMATIC1111's global state: that of :meth:`current`, or what remains of the last job's."""
        with self._changed:
            job = self._current()
            return self._idle if job is None else job.progress

    def subscribe(self, job_id: str | None = None) -> Subscription:
        """Events of one job or of all; to be called on the event loop that reads them.

        :raises QueueFull: there are too many subscriptions.
        """
        return self.events.subscribe(job_id)

    # --- the order of the queue --------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether waiting jobs are kept waiting."""
        return self._paused

    def pause(self) -> None:
        """Start no further job until :meth:`resume`; running ones go on."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Start waiting jobs again."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def promote(self, job_id: str, place: int) -> None:
        """Move a waiting job to ``place``, 1 for the next; beyond the end means last.

        :raises NotFound: no such job. :raises Conflict: it does not wait.
        """
        job = self.get(job_id)
        with self._changed:
            if not self._queue.move(job, place):
                raise Conflict(f"{job.id} does not wait in the queue")

    def forget(self, job_id: str) -> None:
        """Drop an ended job with its result.

        :raises NotFound: no such job. :raises Conflict: it has not ended.
        """
        job = self.get(job_id)
        if not job.ended:
            raise Conflict(f"{job.id} is {job.status}", hint="cancel it first")
        with self._changed:
            self._results.discard(job_id)
            if self._jobs.get(job_id) is job:
                del self._jobs[job_id]

    # --- stopping ----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop running jobs at the next denoiser call; they return what they have, as in AUTOMATIC1111."""
        with self._changed:
            self._idle.interrupted = True  # what is shown when nothing runs; the next job starts without it
            for job in self._visible():
                job.interrupt()

    def skip(self) -> None:
        """End the present batch of running jobs, as in AUTOMATIC1111."""
        with self._changed:
            self._idle.skipped = True
            for job in self._visible():
                job.skip()

    def _visible(self) -> list[AnyJob]:
        return [job for job in self._running if not job.quiet]

    def cancel(self, job_id: str) -> AnyJob:
        """Cancel a waiting job at once, a running one at its next check; an ended one is not changed.

        :raises NotFound: no such job.
        """
        job = self.get(job_id)
        for one in (job, *job.parts):
            self.withdraw(one)
        return job

    def withdraw(self, job: AnyJob) -> None:
        """Cancel ``job``: at once if it waits, else at its next check."""
        job.request_cancel()
        with self._changed:
            waiting = self._placement.take_back(job)
        if waiting:
            self.end(job, "cancelled", error=JobCancelled(f"{job.id} was cancelled"))

    def close(self, timeout: float = 10.0) -> bool:
        """Refuse new jobs, cancel waiting ones, interrupt running ones; returns whether all end within ``timeout``.

        After half of ``timeout`` seconds, running jobs are cancelled. May be called again.
        """
        with self._changed:
            self._closing = True
            waiting = list(self._queue)
            for job in waiting:
                self._queue.remove(job)
            running = list(self._running)
            resting = [worker for worker in self._placement.seats if not self._placement.is_busy(worker)]
            self._changed.notify_all()
        for worker in resting:  # one that is being started need not be waited for
            worker.runner.close()
        for job in waiting:
            self.end(job, "cancelled", error=ShuttingDown("the server is shutting down"))
        for job in running:
            job.interrupt()
        ended = self._join(timeout / 2)
        if not ended:
            for job in running:
                job.request_cancel()
            ended = self._join(timeout / 2)
        for worker in self._placement.seats:
            worker.runner.close()
        self.events.close()
        return ended

    def _join(self, timeout: float) -> bool:
        if not self._started:
            return True
        until = time.monotonic() + timeout
        workers = self._placement.seats
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        return not any(worker.is_alive() for worker in workers)

    # --- used by the workers and jobs --------------------------------------------------------------------------------

    def take(self, worker: Worker) -> list[AnyJob]:
        """Wait for the next job, and start it and those that run together with it on ``worker``'s place.

        Empty when closing, and when the place is drained or removed.
        """
        with self._changed:
            job = self._next_for(worker)
            if job is None:
                return []
            others = len(self._placement.free(but=worker))
            jobs = self._begin(job, worker)
            if others and (len(self._queue) or self._placement.parts_wait):
                self._changed.notify_all()  # they may have left a job to this one
            moved = [waiting for waiting in self._queue if self.events.listens(waiting.id)]
        for started in (job, *jobs[1:]):
            self.publish(started, "started")
        for waiting in moved:
            self.publish(waiting, "queued")
        return jobs

    def _next_for(self, worker: Worker) -> AnyJob | None:
        while self._placement.takes_jobs(worker):
            if (part := self._placement.next_part_for(worker)) is not None:
                return part
            if self._closing:
                return None
            if not self._paused and (job := self._placement.next_for(worker)) is not None:
                return job
            self._changed.wait(self._results.next_expiry())
            self._results.sweep()
        return None

    def _begin(self, job: AnyJob, worker: Worker) -> list[AnyJob]:
        """Start ``job`` on ``worker``: its first part if it is divided, else it and those that run together with it."""
        if parts := divided(job, 1 + self._placement.spare(but=worker), self):
            for part in reversed(parts[1:]):
                self._placement.put_first(part)
            begun, jobs = [job, parts[0]], [parts[0]]
        else:
            # The other free places may take some of those jobs as well, each at once.
            places = 1 + len(self._placement.free(but=worker))
            begun = jobs = [job, *self._queue.take_sharing(job, self._share_limit() / places)]
        for one in begun:
            one.begin(worker.device, self._state_steps())
            self._running.append(one)
            self._placement.begun(one)
        return jobs

    def enqueue_part(self, part: AnyJob) -> None:
        """Let ``part`` of a running job run before all jobs that wait."""
        with self._changed:
            self._placement.put_first(part)
            orphans = self._placement.orphans()
            self._changed.notify_all()
        self._fail(orphans)

    def _state_steps(self) -> int:
        job = self._current()
        return (self._idle if job is None else job.progress).sampling_steps

    def end(
        self,
        job: AnyJob,
        status: JobStatus,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Record that ``job`` has ended, and wake all that wait for it."""
        with self._changed:
            if job in self._running:
                self._running.remove(job)
                self._placement.left(job)
                if not job.quiet:
                    self._idle = idle_copy(job.progress)
                if not job.is_part:
                    self._durations.append(time.time() - (job.started or job.created))
                if status == "completed":
                    self._placement.succeeded(job)
            if not job.is_part:
                self._finished.append(job.id)
        job.end(status, result=result, error=error)
        if job.is_part:
            return
        with self._changed:
            if self._jobs.get(job.id) is job:
                for forgotten in self._results.add(job):
                    self._jobs.pop(forgotten, None)
        self.publish(job, status)

    def publish(self, job: AnyJob, event: str) -> None:
        """Pass an event to the listeners and the observer; an exception of the observer is only logged."""
        if job.is_part or (self._observer is None and not self.events.listens(job.id)):
            return
        data = job_document(job)
        self.events.publish(Event(job_id=job.id, name=event, data=data))
        if self._observer is not None:
            try:
                self._observer(job.id, event, data)
            except Exception:
                log.exception("observer failed on %s of %s", event, job.id)
