"""What a request costs at CFG 1, where the negative prompt cancels out, against CFG 7, side by side.

Both are done in turn, by one process and one loaded model, so only the ratio means anything on a shared machine.
Prints a table; asserts nothing.

    python benchmarks/scale_one.py --size 512 --data-dir DIR
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import replace

from _data import assembled

from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest

SCALES = (1.0, 7.0)


def seconds(services: AppServices, request: GenerationRequest) -> float:
    """Seconds until the answer."""
    began = time.perf_counter()
    asyncio.run(services.generate(request))
    return time.perf_counter() - began


def measure(services: AppServices, arguments: argparse.Namespace, sampler: str, size: int) -> None:
    """Print the row of one sampler at one size."""
    base = GenerationRequest(
        prompt="a red circle", negative_prompt="blue", seed=1, sampler_name=sampler, width=size, height=size
    )
    requests = [replace(base, steps=arguments.steps, cfg_scale=scale) for scale in SCALES]
    for request in requests:
        seconds(services, replace(request, steps=2))
    rounds = [[seconds(services, request) for request in requests] for _ in range(arguments.rounds)]
    one, seven = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(times[0] / times[1] for times in rounds)
    print(f"{sampler:22} {size:5} {one:10.2f} {seven:10.2f} {ratio:8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=["Euler", "DPM++ 2M Karras"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="widths and heights of the pictures")
    parser.add_argument("--rounds", type=int, default=5, help="how often both are done; the table has the medians")
    parser.add_argument("--data-dir", help="data directory with a checkpoint; default: the tests' tiny models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data_dir or assembled(folder)
        services = create_services(
            parse_settings(["--data-dir", data, "--core-only"], environment={}), serve_http=False
        )
        try:
            print(f"{'sampler':22} {'size':>5} {'CFG 1, s':>10} {'CFG 7, s':>10} {'ratio':>8}")
            for sampler in arguments.samplers:
                for size in arguments.sizes:
                    measure(services, arguments, sampler, size)
        finally:
            services.close()


if __name__ == "__main__":
    main()
