"""AUTOMATIC1111's numbers for progress and remaining time, from the state of a job."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from latentd.types import JsonValue, ProgressState

if TYPE_CHECKING:
    from latentd.executors import ExecutorJob

#: Keys of ``state`` in ``/sdapi/v1/progress``, in A1111's order.
STATE_KEYS = (
    "skipped",
    "interrupted",
    "stopping_generation",
    "job",
    "job_count",
    "job_timestamp",
    "job_no",
    "sampling_step",
    "sampling_steps",
)


def done_fraction(state: ProgressState) -> float:
    """The part of the job that is done, not clamped: job_no/job_count + sampling_step/sampling_steps/job_count."""
    if state.job_count <= 0:
        return 0.0
    fraction = state.job_no / state.job_count
    if state.sampling_steps > 0:
        fraction += state.sampling_step / state.sampling_steps / state.job_count
    return fraction


def api_progress(state: ProgressState, now: float | None = None) -> tuple[float, float]:
    """(progress, eta_relative) of ``/sdapi/v1/progress``: both 0 when idle, else with A1111's offset of 0.01.

    ``eta_relative`` is in seconds and comes from the progress before it is clamped to 1, so it may be negative.

    :param now: ``time.monotonic()`` by default.
    """
    if state.job_count == 0:
        return 0.0, 0.0
    progress = 0.01 + done_fraction(state)
    elapsed = _elapsed(state, now)
    return min(progress, 1.0), elapsed / progress - elapsed


def internal_progress(state: ProgressState, now: float | None = None) -> tuple[float, float | None]:
    """(progress, eta) of ``/internal/progress``: without the offset; eta in seconds, None while nothing is done.

    :param now: ``time.monotonic()`` by default.
    """
    progress = min(done_fraction(state), 1.0)
    if progress <= 0:
        return 0.0, None
    elapsed = _elapsed(state, now)
    return progress, elapsed / progress - elapsed


def state_document(state: ProgressState) -> dict[str, JsonValue]:
    """The ``state`` object of ``/sdapi/v1/progress``."""
    return {key: getattr(state, key) for key in STATE_KEYS}


def idle_copy(state: ProgressState) -> ProgressState:
    """The part of ``state`` that remains after its job: flags and counters, without the job and pictures."""
    return replace(state, job="", job_count=0, textinfo=None, preview=None)


def job_document(job: ExecutorJob[object], position: int | None = None) -> dict[str, JsonValue]:
    """A job as the jobs API and its events show it, ready for JSON.

    :param position: the place in the queue, if the caller knows it.
    """
    state = job.progress
    progress, eta = (1.0, 0.0) if job.status == "completed" else internal_progress(state)
    document: dict[str, JsonValue] = {
        "id": job.id,
        "kind": job.kind,
        "state": job.status,
        "position": job.position if position is None else position,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "progress": round(progress, 4),
        "eta": eta,
        "step": state.sampling_step,
        "steps": state.sampling_steps,
        "batch": state.job_no,
        "batches": max(state.job_count, 0),
        "text": state.job,
        "stage": state.stage,
        "preview_id": state.preview_id,
        "interrupted": state.interrupted,
        "expired": job.expired,
        "warnings": list(state.warnings),
        "meta": dict(job.meta),
        "error": None,
    }
    if job.error is not None:
        document["error"] = {"type": type(job.error).__name__, "detail": str(job.error)}
    return document


def _elapsed(state: ProgressState, now: float | None) -> float:
    if state.started_at is None:
        return 0.0
    return max(0.0, (time.monotonic() if now is None else now) - state.started_at)
