"""What sharing denoising batches saves: N jobs that share, and the same N jobs one after another, side by side.

Both are done in turn, by one process and one loaded model, so only the ratios mean anything on a shared machine: of the
time until the last answer, and of the mean time until each answer. Beside them stands how far the pictures differ.
Prints a table; asserts nothing.

    python benchmarks/shared_batches.py --jobs 2 4 8 --size 512 --data-dir DIR
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
from _data import assembled

from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, Result

SUBJECTS = ("a red circle", "a [cat|dog]", "a house, " + "very detailed, " * 30, "a (blue:1.2) boat AND the sea")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from letting the worker go until the last answer, and until each on average; and the answers."""

    last: float
    mean: float
    results: list[Result]


def requests(count: int, sampler: str, steps: int, size: int, *, shared: bool) -> list[GenerationRequest]:
    """Jobs that differ in all that jobs of one batch may differ in."""
    base = GenerationRequest(sampler_name=sampler, steps=steps, width=size, height=size, subseed=1)
    # A job without extra networks is made by itself, and has otherwise the same work here.
    base = replace(base, disable_extra_networks=not shared)
    return [
        replace(base, prompt=SUBJECTS[n % len(SUBJECTS)], negative_prompt="ugly" * (n % 2), seed=n, cfg_scale=4.0 + n)
        for n in range(count)
    ]


def timed(services: AppServices, wanted: list[GenerationRequest]) -> Times:
    """Have all of ``wanted`` wait, let the worker go, and time the answers."""
    gate = threading.Event()
    services.engine.submit(lambda job: gate.wait(), kind="load", quiet=True)
    jobs = [asyncio.run(services.submit(request)) for request in wanted]
    begun = time.time()
    gate.set()
    results = [job.join() for job in jobs]
    ended = [(job.finished or begun) - begun for job in jobs]
    return Times(max(ended), statistics.mean(ended), results)


def difference(one: list[Result], other: list[Result]) -> tuple[int, float]:
    """(largest difference of a sample of 255, PSNR in dB) of two lists of pictures; inf where none differs."""
    pixels = [
        np.stack([np.asarray(image.image.convert("RGB"), dtype=np.int16) for r in results for image in r.images])
        for results in (one, other)
    ]
    apart = np.abs(pixels[0] - pixels[1])
    error = float(np.mean(apart.astype(np.float64) ** 2))
    return int(apart.max()), 10 * math.log10(255**2 / error) if error else math.inf


def measure(services: AppServices, arguments: argparse.Namespace, sampler: str, count: int) -> None:
    """Print the row of ``count`` jobs with ``sampler``."""
    make = {
        shared: requests(count, sampler, arguments.steps, arguments.size, shared=shared) for shared in (True, False)
    }
    for wanted in make.values():
        timed(services, [replace(request, steps=2) for request in wanted])
    rounds = [(timed(services, make[True]), timed(services, make[False])) for _ in range(arguments.rounds)]
    last = statistics.median(together.last / apart.last for together, apart in rounds)
    mean = statistics.median(together.mean / apart.mean for together, apart in rounds)
    furthest, psnr = difference(rounds[0][0].results, rounds[0][1].results)
    print(f"{sampler:22} {count:4} {last:12.2f} {mean:12.2f} {furthest:11} {psnr:10.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[2, 4, 8], help="numbers of jobs that share")
    parser.add_argument("--samplers", nargs="+", default=["Euler a", "DPM++ 2M Karras", "DPM++ SDE"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=128, help="width and height of the pictures")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are done; the table has the medians")
    parser.add_argument("--data-dir", help="data directory with a checkpoint; default: the tests' tiny models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data_dir or assembled(folder)
        limit = math.ceil(max(arguments.jobs) * max(1, arguments.size**2 / 512**2))
        settings = parse_settings(["--data-dir", data, "--share-batches", str(limit), "--core-only"], environment={})
        services = create_services(settings, serve_http=False)
        try:
            print(f"{'':22} {'':4} {'ratio of the time until':^25} {'greatest':>11}")
            print(
                f"{'sampler':22} {'jobs':4} {'last answer':>12} {'mean answer':>12} {'difference':>11} {'PSNR':>7} dB"
            )
            for sampler in arguments.samplers:
                for count in arguments.jobs:
                    measure(services, arguments, sampler, count)
        finally:
            services.close()


if __name__ == "__main__":
    main()
