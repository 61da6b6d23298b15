"""Engines that are closed in the end, and work for their real workers that goes step by step under the test's hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from latentd.engine.executor import Engine
from latentd.engine.job import Job
from latentd.errors import Interrupted


class Sampling:
    """Work that does ``batches`` of ``steps`` as the pipeline does, each step when the test lets it.

    Returns what was finished: for each batch the number of steps done.
    """

    def __init__(self, *, steps: int = 4, batches: int = 1) -> None:
        self.steps = steps
        self.batches = batches
        self._let = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)

    def __call__(self, job: Job[list[int]]) -> list[int]:
        state = job.progress
        state.job_count = self.batches
        done: list[int] = []
        for batch in range(self.batches):
            if not job.begin_batch():
                break
            if self.batches > 1:
                state.job = f"Batch {batch + 1} out of {self.batches}"
            state.sampling_steps = self.steps
            done.append(self._batch(job))
            state.next_job()
        return done

    def _batch(self, job: Job[list[int]]) -> int:
        for step in range(self.steps):
            self._arrived.release()
            assert self._let.acquire(timeout=20), "the test never let the step go"
            try:
                job.check()
            except Interrupted:
                if job.stop_requested() == "cancel":
                    raise
                return step
            job.progress.sampling_step = step + 1
        return self.steps

    def reached(self, evaluations: int = 1) -> None:
        """Wait until the worker stands before the next ``evaluations``-th denoiser call."""
        for _ in range(evaluations):
            assert self._arrived.acquire(timeout=20), "the worker did not come here"

    def go(self, steps: int = 1) -> None:
        """Let ``steps`` steps run, and wait until the worker stands before the one after them."""
        for _ in range(steps):
            self._let.release()
            self.reached()

    def finish(self) -> None:
        """Let everything that is left run."""
        self._let.release(10_000)


@pytest.fixture
def sampling() -> type[Sampling]:
    return Sampling


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Makes engines that are closed when the test ends."""
    made: list[Engine] = []

    def make(**settings: object) -> Engine:
        engine = Engine(**settings)  # type: ignore[arg-type]
        made.append(engine)
        return engine

    yield make
    for engine in made:
        assert engine.close(timeout=10), "a worker did not stop"


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()
