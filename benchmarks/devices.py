"""What a second CPU worker brings: pictures a minute of one worker, of two threads, and of two processes, in turn.

Each worker computes with one thread. The three servers draw the same jobs round after round, one server at a time, so
what else the machine does meets all of them alike; the ratio of each round is printed, and their median. Two workers
need two idle cores; where others use them, the processor time of a picture tells what a second worker costs beyond its
own. Asserts that the pictures are equal, and nothing about speed.

    python benchmarks/devices.py --rounds 5 --jobs 8 --size 256 --steps 20
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import replace

import psutil  # type: ignore[import-untyped]
from _data import assembled

from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, Result

KINDS = {
    "one worker": (),
    "two threads": ("--devices", "cpu:0,cpu:1"),
    "two processes": ("--devices", "cpu:0,cpu:1", "--worker-processes"),
}


def processor_seconds() -> float:
    """Processor time of this process and of its worker processes."""
    mine = psutil.Process()
    times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def draw(services: AppServices, requests: list[GenerationRequest]) -> tuple[float, list[bytes]]:
    """Seconds until the last answer, and the pixels of every picture."""

    async def all_at_once() -> list[Result]:
        jobs = [await services.submit(request) for request in requests]
        return [await job.wait() for job in jobs]

    begun = time.perf_counter()
    results = asyncio.run(all_at_once())
    seconds = time.perf_counter() - begun
    return seconds, [image.image.tobytes() for result in results for image in result.images]


def warmed(folder: str, flags: tuple[str, ...], request: GenerationRequest) -> AppServices:
    """A server whose every worker has loaded its model."""
    services = create_services(
        parse_settings(["--data-dir", folder, "--core-only", *flags], environment={}), serve_http=False
    )
    services.warm_up()
    for place in services.engine.places():
        services.engine.submit(lambda control: None, kind="load", quiet=True, device=place.name).join()
    draw(services, [request] * 2 * len(services.engine.places()))
    return services


def main() -> None:
    """Print a line for each round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--data-dir", help="a data folder with the tiny model; made anew if not given")
    arguments = parser.parse_args()
    # torch and the worker processes are started later.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    base = GenerationRequest(prompt="a red circle", steps=arguments.steps, width=arguments.size, height=arguments.size)
    requests = [replace(base, seed=seed) for seed in range(arguments.jobs)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data_dir or str(assembled(scratch))
        servers = {name: warmed(folder, flags, base) for name, flags in KINDS.items()}
        rounds: dict[str, list[float]] = {name: [] for name in servers}
        used = dict.fromkeys(servers, 0.0)
        for number in range(arguments.rounds):
            drawn = {}
            for name, services in servers.items():
                before = processor_seconds()
                seconds, drawn[name] = draw(services, requests)
                used[name] += processor_seconds() - before
                rounds[name].append(seconds)
            assert len({tuple(pictures) for pictures in drawn.values()}) == 1, "the pictures differ"
            one = rounds["one worker"][-1]
            print(
                f"round {number + 1}: "
                + ", ".join(f"{name} {times[-1]:.2f} s ({one / times[-1]:.2f} x)" for name, times in rounds.items()),
                flush=True,
            )
        for name, times in rounds.items():
            ratios = [one / two for one, two in zip(rounds["one worker"], times, strict=True)]
            rate = 60 * arguments.jobs / statistics.median(times)
            cost = used[name] / arguments.jobs / arguments.rounds
            print(
                f"{name:14} {rate:6.1f} pictures a minute, {statistics.median(ratios):.2f} x (median); "
                f"{cost:.2f} s of processor time a picture"
            )
        for services in servers.values():
            services.close()


if __name__ == "__main__":
    main()
