"""Engines that are closed in the end, and work for their real workers that goes step by step under the test's hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from latentd.engine.executor import Engine
from latentd.engine.job import Job
from latentd.errors import Interrupted


class Sampling:
    """Work of ``steps``, each done when the test lets it; returns the number of those that were done, in a list.

    What the engine does with any work is tested with it, without torch. What a generation tells of itself, and how it
    heeds a stop, is tested on real ones in ``tests/stages``.
    """

    def __init__(self, *, steps: int = 4) -> None:
        self.steps = steps
        self._let = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)

    def __call__(self, job: Job[list[int]]) -> list[int]:
        job.progress.job_count = 1
        job.progress.sampling_steps = self.steps
        done = [self._steps(job)]
        job.progress.next_job()
        return done

    def _steps(self, job: Job[list[int]]) -> int:
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
