"""A1111's formulas and state, against timelines recorded from 1.8.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentd.engine.executor import Engine
from latentd.engine.progress import STATE_KEYS, api_progress, internal_progress, state_document
from latentd.types import ProgressState

RECORDED = json.loads((Path(__file__).parent / "recorded_progress.json").read_text())
ROWS = [pytest.param(row, id=f"{name}-{n}") for name, rows in RECORDED.items() for n, row in enumerate(rows)]


def as_state(row: dict[str, object], *, elapsed: float) -> ProgressState:
    return ProgressState(**row["state"], started_at=100.0 - elapsed)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", ROWS)
def test_progress_and_eta_follow_the_recording(row: dict[str, object]) -> None:
    recorded, eta = float(row["progress"]), float(row["eta_relative"])  # type: ignore[arg-type]
    unclamped = sum_of_parts(row["state"])  # type: ignore[arg-type]
    # The elapsed time was not recorded: take the one that gives the recorded eta, and see that the rest follows.
    elapsed = eta / (1 / unclamped - 1) if unclamped else 0.0
    progress, eta_relative = api_progress(as_state(row, elapsed=elapsed), now=100.0)
    assert progress == pytest.approx(recorded, abs=1e-9)
    assert eta_relative == pytest.approx(eta, abs=1e-6)


def sum_of_parts(state: dict[str, float]) -> float:
    if state["job_count"] == 0:
        return 0.0
    if state["job_count"] < 0:
        return 0.01
    step = state["sampling_step"] / state["sampling_steps"]
    return 0.01 + (state["job_no"] + step) / state["job_count"]


@pytest.mark.parametrize("row", ROWS)
def test_the_state_has_the_recorded_keys_in_order(row: dict[str, object]) -> None:
    document = state_document(as_state(row, elapsed=0))
    assert list(document) == list(STATE_KEYS) == list(row["state"])  # type: ignore[call-overload]
    assert document == row["state"]


def test_idle_is_zero() -> None:
    assert api_progress(ProgressState(started_at=1.0), now=5.0) == (0.0, 0.0)
    assert state_document(ProgressState())["job_timestamp"] == "0"


def test_internal_progress_has_no_offset_and_no_eta_at_first() -> None:
    state = ProgressState(job_count=2, job_no=1, sampling_step=5, sampling_steps=10, started_at=0.0)
    assert internal_progress(state, now=30.0) == (0.75, pytest.approx(10.0))
    state = ProgressState(job_count=-1, started_at=0.0)
    assert internal_progress(state, now=30.0) == (0.0, None)
    state = ProgressState(job_count=1, job_no=1, started_at=0.0)
    assert internal_progress(state, now=30.0) == (1.0, 0.0)


def test_a_job_begins_with_count_minus_one_and_the_last_jobs_steps(engine: Engine, sampling: Any) -> None:
    first = sampling(steps=7)
    engine.submit(first, kind="txt2img")
    first.finish()
    job = engine.submit(lambda job: state_document(engine.state()), kind="img2img")
    state = job.join(20)
    assert (state["job"], state["job_count"], state["sampling_steps"]) == ("scripts_img2img", -1, 7)
    assert api_progress(ProgressState(job_count=-1, started_at=0.0), now=1.0) == (0.01, 99.0)
