"""What A1111's clients see of a real generation while it runs, state for state as recorded from 1.8.0."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import drawing_on, services_on

from latentd.api import hookimpl
from latentd.engine.progress import state_document
from latentd.server.services import AppServices

RECORDED = Path(__file__).parents[1] / "engine"


class Watcher:
    """A plugin that notes A1111's state, and the preview's number, at each turn of a generation."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.previews: list[tuple[int, int]] = []

        self.events: list[tuple[str, str | None]] = []

    @hookimpl
    def job_event(self, job_id: str, event: str, data: Mapping[str, Any]) -> None:
        if event != "queued":
            self.events.append((event, data["stage"]))

    def _look(self, generation: Any) -> None:
        state = generation.control.progress
        self.states.append(state_document(state))
        self.previews.append((state.sampling_step, state.preview_id))

    @hookimpl
    def before_process(self, generation: Any) -> None:
        self.states.clear()
        self.previews.clear()
        self._look(generation)

    @hookimpl
    def before_step(self, generation: Any) -> None:
        self._look(generation)

    @hookimpl
    def after_step(self, generation: Any) -> None:
        self._look(generation)


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="module")
def watched(tiny_data: Path, watcher: Watcher) -> Iterator[AppServices]:
    services = services_on(tiny_data, plugins=[("watcher", watcher)], checkpoint="base.safetensors")
    yield services
    services.close()


def test_a_job_walks_through_the_states_of_a_recorded_one(watched: AppServices, watcher: Watcher) -> None:
    """The rows of ``batch-iter``: three batches of ten Euler steps, after a job of 25."""
    draw = drawing_on(watched)
    draw(steps=25)
    draw(steps=10, n_iter=3, sampler_name="Euler")
    seen = [*watcher.states, state_document(watched.engine.state())]
    assert all(len(state.pop("job_timestamp")) == 14 for state in seen)
    recorded = [row["state"] for row in json.loads((RECORDED / "recorded_progress.json").read_text())["batch-iter"]]
    expected = [{key: value for key, value in row.items() if key != "job_timestamp"} for row in recorded]
    assert [state for state, _ in itertools.groupby(seen)] == expected


@pytest.mark.parametrize("steps", [1, 3])
def test_events_tell_when_each_pass_of_sampling_begins_and_ends(
    watched: AppServices, watcher: Watcher, steps: int
) -> None:
    draw = drawing_on(watched)
    watcher.events.clear()
    draw(steps=steps, n_iter=2, sampler_name="Euler")
    turns = [event for event, _ in itertools.groupby(watcher.events)]
    passes = [("progress", "sample"), ("progress", "finish")] * 2
    assert turns == [("started", None), *passes, ("completed", "finish")]


def test_previews_change_at_the_recorded_steps(watched: AppServices, watcher: Watcher) -> None:
    """Recorded with every 3 steps: a new picture is shown first at steps 3, 6, 9 ... 27."""
    options = {"show_progress_every_n_steps": 3, "show_progress_type": "Approx cheap"}
    drawing_on(watched)(options, steps=30, sampler_name="Euler")
    changes = [
        step
        for (step, number), (_, before) in zip(watcher.previews[1:], watcher.previews, strict=False)
        if number != before
    ]
    rows = json.loads((RECORDED / "recorded_previews.json").read_text())
    assert changes == [
        row["step"] for before, row in itertools.pairwise(rows) if row["image"] not in (None, before["image"])
    ]
