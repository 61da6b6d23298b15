"""A job that is divided: its parts run in several places at the same time, then their results are joined.

The job itself runs nowhere. Its parts, and the work that joins them, are jobs that only the engine sees; each runs,
fails and is tried elsewhere as any other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from latentd.engine.job import MAX_WARNINGS, AnyJob, Job, JobCancelled, JobStatus
from latentd.engine.progress import done_fraction
from latentd.executors import Division, PortableWork
from latentd.types import Stage

log = logging.getLogger(__name__)

#: What sums of shares may lack of a whole batch.
_ROUNDING = 1e-9


class Foreman(Protocol):
    """The part of the engine that a divided job uses."""

    def enqueue_part(self, part: AnyJob) -> None:
        """Let ``part`` run before all jobs that wait."""

    def withdraw(self, job: AnyJob) -> None:
        """Ask for ``job``'s end as cancelled; at once if it waits."""

    def end(
        self,
        job: AnyJob,
        status: JobStatus,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Record that ``job`` has ended."""


def divided(job: AnyJob, places: int, engine: Foreman) -> tuple[AnyJob, ...]:
    """The parts of ``job``, at most one for each of ``places``; none if it is to be done whole, in one place."""
    work = job.work
    if places < 2 or not isinstance(work, PortableWork) or job.wanted_device is not None or job.failed_on is not None:
        return ()
    if work.division is None or work.division.most < 2:
        return ()
    try:
        return DividedJob(job, work, work.division, min(places, work.division.most), engine).parts
    except Exception:
        log.exception("%s cannot be divided and is done whole", job)
        return ()


class DividedJob:
    """The parts of one job, and then the work that joins their results.

    :param whole: the job, which runs from now on; its progress is that of its parts together.
    :param work: what it was to do whole. :param division: how that is divided.
    :param count: the number of parts.
    :param engine: runs the joining work, and is told of the end.
    """

    def __init__(
        self, whole: AnyJob, work: PortableWork[Any], division: Division[Any], count: int, engine: Foreman
    ) -> None:
        self._whole = whole
        self._work = work
        self._division = division
        self._engine = engine
        self._lock = threading.Lock()
        parts = division.cut(count)
        works = [part.work for part in parts]
        works[0] = replace(works[0], first=self._work.first)
        self.parts = tuple(self._new(work) for work in works)
        self._shares = [part.share for part in parts]
        self._done = [0.0] * len(parts)
        self._previews = [0] * len(parts)
        self._left = len(parts)
        for part in self.parts:
            part.add_done_callback(self._part_ended)
        self._put_to_work(self.parts)
        log.info("%s is done in %d parts", whole, len(self.parts))

    def _new(self, work: PortableWork[Any]) -> AnyJob:
        whole = self._whole
        return Job(
            work,
            id=whole.id,
            kind=whole.kind,
            model_key=whole.model_key,
            quiet=True,
            is_part=True,
            publish=self._moved,
        )

    def _put_to_work(self, parts: tuple[AnyJob, ...]) -> None:
        """Let stops of the job reach ``parts``, those included that have been asked for already."""
        whole = self._whole
        whole.parts = parts
        for part in parts:
            part.progress.interrupted = part.progress.interrupted or whole.progress.interrupted
            if whole.watched:
                part.watch()
            if whole.cancel_requested:
                part.request_cancel()

    # --- progress ----------------------------------------------------------------------------------------------------

    def _moved(self, part: AnyJob, event: str) -> None:
        """Show the progress of all parts as the job's; called on the threads of their places."""
        if part not in self.parts:
            return  # what joins them has nothing to tell
        with self._lock:
            self._add_up(part)
        self._whole.report()

    def _add_up(self, moved: AnyJob) -> None:
        state = self._whole.progress
        for number, part in enumerate(self.parts):
            done = 1.0 if part.ended else min(done_fraction(part.progress), 1.0)
            # A part that is tried again begins anew; what the job shows does not go back.
            self._done[number] = max(self._done[number], done)
        share = sum(share * done for share, done in zip(self._shares, self._done, strict=True))
        batches = share * self._division.count + _ROUNDING
        state.job_count = self._division.count
        state.job_no = int(batches)
        state.sampling_steps = moved.progress.sampling_steps or state.sampling_steps
        state.sampling_step = int((batches - state.job_no) * state.sampling_steps)
        state.job, state.textinfo = moved.progress.job or state.job, moved.progress.textinfo
        state.stage = self._stage()
        state.warnings = _united([state.warnings, moved.progress.warnings])
        state.skipped = state.skipped and any(part.progress.skipped for part in self.parts if not part.ended)
        number = self.parts.index(moved)
        if moved.progress.preview is not None and moved.progress.preview_id != self._previews[number]:
            self._previews[number] = moved.progress.preview_id
            state.preview, state.preview_step = moved.progress.preview, state.sampling_step
            state.preview_id += 1

    def _stage(self) -> Stage | None:
        """``sample`` while a part samples, ``finish`` once all have, else what came before."""
        stages = ["finish" if part.ended else part.progress.stage for part in self.parts]
        if "sample" in stages:
            return "sample"
        if all(stage == "finish" for stage in stages):
            return "finish"
        return self._whole.progress.stage or ("prepare" if any(stages) else None)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _part_ended(self, part: AnyJob) -> None:
        with self._lock:
            self._add_up(part)
            self._left -= 1
            last = self._left == 0
        if part.status != "completed":
            for other in self.parts:
                self._engine.withdraw(other)
        if not last:
            return
        try:
            self._join()
        except Exception as error:
            log.exception("%s: its parts cannot be joined", self._whole)
            self._engine.end(self._whole, "failed", error=error)

    def _join(self) -> None:
        broken = [part for part in self.parts if part.status != "completed"]
        if broken:
            # A part that failed comes before those that were cancelled for that.
            self._end_as(min(broken, key=lambda part: part.status != "failed"))
            return
        work = self._division.join([part.result for part in self.parts])
        joining = self._new(replace(work, last=self._work.last))
        joining.progress.warnings = _united(part.progress.warnings for part in self.parts)
        joining.add_done_callback(self._end_as)
        self._put_to_work((joining,))
        self._engine.enqueue_part(joining)

    def _end_as(self, part: AnyJob) -> None:
        whole = self._whole
        whole.progress.warnings = _united([whole.progress.warnings, part.progress.warnings])
        if whole.cancel_requested:
            self._engine.end(whole, "cancelled", error=JobCancelled(f"{whole.id} was cancelled"))
        else:
            self._engine.end(whole, part.status, result=part.result, error=part.error)


def _united(warnings: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All of them, each once, in their order."""
    return tuple(dict.fromkeys(message for each in warnings for message in each))[:MAX_WARNINGS]
