"""The simulation of the queue: it obeys queueing theory where that has an answer, and the engine's rules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("simpy")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from queue_simulation import Scenario, simulate

DAY_OF = 86_400.0


def test_one_gpu_waits_as_the_formula_says() -> None:
    # M/G/1: the mean wait is rate * E[S^2] / (2 (1 - load)); S log-normal with mean 10 and sigma 0.8, at half load.
    rate, mean, spread = 0.05, 10.0, 0.8
    scenario = Scenario(
        gpus=1, per_day=rate * DAY_OF, hours=400, peak=1, draw=mean, spread=spread, load=0, checkpoints=1, seed=3
    )
    figures = simulate(scenario)
    second_moment = mean**2 * 2.718281828459045 ** (spread**2)
    expected = rate * second_moment / (2 * (1 - rate * mean))
    assert sum(figures.waits) / len(figures.waits) == pytest.approx(expected, rel=0.1)


def test_every_request_is_drawn_and_each_gpu_loads_a_lone_checkpoint_once() -> None:
    figures = simulate(Scenario(gpus=20, per_day=2e4, hours=2, checkpoints=1))
    assert len(figures.waits) > 2000
    assert 0 < figures.switches <= 20


def test_jobs_go_where_their_checkpoint_is() -> None:
    few = simulate(Scenario(gpus=40, per_day=3e4, hours=2, checkpoints=10))
    alone = simulate(Scenario(gpus=40, per_day=3e4, hours=2, checkpoints=10, heads=20))
    assert few.switches < len(few.waits) / 4
    assert alone.switches > few.switches, "twenty queues of two GPUs must switch more often than one of forty"


def test_more_overtaking_means_fewer_switches_under_load() -> None:
    strict, loose = (
        simulate(Scenario(gpus=4, per_day=1.1e4, hours=6, peak=1, checkpoints=6, load=20, overtakes=n)) for n in (0, 32)
    )
    assert loose.switches < strict.switches
