"""The queue at a thousand GPUs, by a discrete-event model: waiting times and switches of checkpoints.

The queue and the placement are the engine's own classes; only the GPUs and the clients are made up: requests come at
random (a Poisson process), more by day than by night, for checkpoints of which few are asked for often (Zipf's law);
drawing takes a log-normal time, and a checkpoint that a GPU does not have takes a while to load. Needs simpy. Prints a
table; the page docs/explanation/many-gpus.md says what it means.

    python benchmarks/queue_simulation.py --gpus 1000 --requests-per-day 1e6 --hours 24
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import simpy

from latentd.engine.job import AnyJob, Job
from latentd.engine.placement import Placement
from latentd.engine.queue import JobQueue

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated. Times are in seconds.

    :ivar peak: how much more than on average is asked for at the busiest hour.
    :ivar draw: mean time that a request takes to draw; ``spread`` is the standard deviation of its logarithm.
    :ivar load: time to load a checkpoint onto a GPU.
    :ivar zipf: the exponent: the n-th checkpoint is asked for n**-zipf as often as the first.
    :ivar kept: checkpoints that a GPU keeps (option ``sd_checkpoints_limit``).
    :ivar overtakes: how often a waiting job may be overtaken.
    :ivar heads: servers behind a load balancer, each with its share of the GPUs.
    :ivar by_checkpoint: whether the balancer chooses the head by the checkpoint instead of at random.
    """

    gpus: int = 1000
    per_day: float = 1e6
    hours: float = 24.0
    peak: float = 2.0
    draw: float = 30.0
    spread: float = 0.8
    load: float = 12.0
    checkpoints: int = 200
    zipf: float = 1.0
    kept: int = 1
    overtakes: int = 4
    heads: int = 1
    by_checkpoint: bool = False
    seed: int = 1


@dataclass(slots=True, eq=False)
class Gpu:
    """A GPU as the placement sees it."""

    device: str
    loaded: tuple[str, ...] = ()
    ready: bool = True


@dataclass(slots=True)
class Figures:
    """What was counted: waiting times in order of arrival, and seconds of drawing and loading."""

    waits: list[float] = field(default_factory=list)
    switches: int = 0
    drawing: float = 0.0
    loading: float = 0.0
    longest: int = 0

    def wait(self, share: float) -> float:
        """The waiting time that ``share`` of the requests do not exceed."""
        return sorted(self.waits)[min(int(share * len(self.waits)), len(self.waits) - 1)]


class Head:
    """One server: the engine's queue and placement, with simulated GPUs."""

    def __init__(self, environment: simpy.Environment, scenario: Scenario, gpus: int, figures: Figures) -> None:
        self._environment = environment
        self._scenario = scenario
        self._figures = figures
        self._queue = JobQueue(limit=10**9, max_overtakes=scenario.overtakes)
        self._placement: Placement[Gpu] = Placement(self._queue)
        self._free: dict[str, Gpu] = {}
        self._with: dict[str, dict[str, Gpu]] = defaultdict(dict)
        for number in range(gpus):
            gpu = Gpu(f"cuda:{number}")
            self._placement.add(gpu)
            self._vacate(gpu)

    def submit(self, job: AnyJob, seconds: float) -> None:
        """Queue ``job``, which takes ``seconds`` to draw, and let the GPU ask for it that the rule gives it to."""
        job.meta = {"at": self._environment.now, "seconds": seconds}
        self._queue.push(job)
        holders = self._with[job.model_key or ""] or self._with[""] or self._free
        if holders:
            self._take(next(iter(holders.values())))
        self._figures.longest = max(self._figures.longest, len(self._queue))

    def _take(self, gpu: Gpu) -> None:
        job = self._placement.next_for(gpu)
        if job is None:
            return
        self._occupy(gpu)
        job.device = gpu.device
        self._placement.begun(job)
        self._environment.process(self._run(gpu, job))

    def _run(self, gpu: Gpu, job: AnyJob) -> Generator[simpy.Event, Any, None]:
        scenario, figures, key = self._scenario, self._figures, job.model_key or ""
        figures.waits.append(self._environment.now - float(job.meta["at"]))
        if key not in gpu.loaded:
            figures.switches += 1
            figures.loading += scenario.load
            yield self._environment.timeout(scenario.load)
        gpu.loaded = (key, *(other for other in gpu.loaded if other != key))[: scenario.kept]
        seconds = float(job.meta["seconds"])
        figures.drawing += seconds
        yield self._environment.timeout(seconds)
        self._placement.left(job)
        self._vacate(gpu)
        self._take(gpu)

    def _vacate(self, gpu: Gpu) -> None:
        self._free[gpu.device] = gpu
        for key in gpu.loaded or ("",):
            self._with[key][gpu.device] = gpu

    def _occupy(self, gpu: Gpu) -> None:
        del self._free[gpu.device]
        for key in gpu.loaded or ("",):
            del self._with[key][gpu.device]


def simulate(scenario: Scenario) -> Figures:
    """Run ``scenario``; with fewer than 24 hours, those around the busiest."""
    draw = random.Random(scenario.seed)
    environment, figures = simpy.Environment(), Figures()
    heads = [Head(environment, scenario, scenario.gpus // scenario.heads, figures) for _ in range(scenario.heads)]
    names = [f"model-{number}" for number in range(scenario.checkpoints)]
    shares = list(itertools.accumulate(1 / (number + 1) ** scenario.zipf for number in range(scenario.checkpoints)))
    begin = DAY / 2 - scenario.hours * 1800
    middle = math.log(scenario.draw) - scenario.spread**2 / 2

    def clients() -> Generator[simpy.Event, Any, None]:
        number = 0
        while environment.now < scenario.hours * 3600:
            time = begin + environment.now
            swing = 1 + (scenario.peak - 1) * math.cos(2 * math.pi * (time - DAY / 2) / DAY)
            rate = scenario.per_day / DAY * max(swing, 0.05)
            yield environment.timeout(draw.expovariate(rate))
            name = draw.choices(names, cum_weights=shares)[0]
            number += 1
            job: AnyJob = Job(lambda job: None, id=str(number), kind="txt2img", model_key=name)
            chosen = hash_of(name) % len(heads) if scenario.by_checkpoint else draw.randrange(len(heads))
            heads[chosen].submit(job, draw.lognormvariate(middle, scenario.spread))

    environment.process(clients())
    environment.run()
    return figures


def hash_of(name: str) -> int:
    """A number that spreads names evenly and is the same in every run."""
    return random.Random(name).getrandbits(32)


def row(label: str, scenario: Scenario) -> str:
    """A line of the table."""
    figures = simulate(scenario)
    whole = scenario.gpus * scenario.hours * 3600
    mean = sum(figures.waits) / len(figures.waits)
    return (
        f"{label:34} {len(figures.waits):8} {figures.drawing / whole:7.0%} {figures.loading / whole:7.0%} "
        f"{mean:8.1f} {figures.wait(0.5):7.1f} {figures.wait(0.95):7.1f} {figures.wait(0.99):7.1f} "
        f"{max(figures.waits):8.0f} {figures.switches / scenario.hours:9.0f} {figures.longest:8}"
    )


def main() -> None:
    """Print a row for the rule as it is, and for what could be changed about it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Scenario()
    parser.add_argument("--gpus", type=int, default=defaults.gpus)
    parser.add_argument("--requests-per-day", type=float, default=defaults.per_day)
    parser.add_argument("--hours", type=float, default=2.0, help="around the busiest hour; 24 for the whole day")
    parser.add_argument("--draw", type=float, default=defaults.draw, help="mean seconds to draw a request")
    parser.add_argument("--load", type=float, default=defaults.load, help="seconds to load a checkpoint")
    parser.add_argument("--checkpoints", type=int, default=defaults.checkpoints)
    given = parser.parse_args()
    base = replace(
        defaults,
        gpus=given.gpus,
        per_day=given.requests_per_day,
        hours=given.hours,
        draw=given.draw,
        load=given.load,
        checkpoints=given.checkpoints,
    )
    scenarios = {
        "as it is": base,
        "no overtaking": replace(base, overtakes=0),
        "overtaken 32 times at most": replace(base, overtakes=32),
        "4 checkpoints a GPU": replace(base, kept=4),
        "one checkpoint for all": replace(base, checkpoints=1),
        "8 heads, chosen at random": replace(base, heads=8),
        "8 heads, chosen by checkpoint": replace(base, heads=8, by_checkpoint=True),
        "125 heads of 8 GPUs, at random": replace(base, heads=125),
    }
    print(
        f"{'':34} requests drawing loading     wait  median     95%     99%  longest switches/h  waiting",
        flush=True,
    )
    for label, scenario in scenarios.items():
        print(row(label, scenario), flush=True)


if __name__ == "__main__":
    main()
