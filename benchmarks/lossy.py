"""What each faster but lossy way of drawing saves, and how far its pictures are from those without it.

The carried tiny model draws the same requests each way by turns, in one process. Distances are PSNR in dB
between pictures of 8 bits; 40 dB is hard to see. Prints a table; asserts nothing.

    python benchmarks/lossy.py --size 256 --pairs 3
"""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from _report import Figure, Report, ratios

from latentd.models.allocator import keep_freed_memory
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest, JsonValue

PROMPTS = ("a red apple on a blue background", "a green frog", "a yellow house on grey")
WAYS: dict[str, tuple[list[str], dict[str, JsonValue]]] = {
    "float32": ([], {}),
    "float32, channels-last": (["--opt-channelslast"], {}),
    "bfloat16": (["--dtype", "bf16"], {}),
    "bfloat16, VAE in float32": (["--dtype", "bf16", "--no-half-vae"], {}),
    "float16, VAE in float32": (["--dtype", "fp16"], {}),
    "step cache 0.05": ([], {"step_cache_threshold": 0.05}),
    "step cache 0.1": ([], {"step_cache_threshold": 0.1}),
    "step cache 0.2": ([], {"step_cache_threshold": 0.2}),
    "token merging 0.3": ([], {"token_merging_ratio": 0.3}),
    "token merging 0.5": ([], {"token_merging_ratio": 0.5}),
    "TAESD decoder": ([], {"sd_vae_decode_method": "TAESD"}),
}


def drawn(services: AppServices, request: GenerationRequest) -> tuple[float, np.ndarray]:
    """Seconds of all prompts, and the pictures [N,H,W,3] in 0 to 255."""
    began = time.perf_counter()
    results = [asyncio.run(services.generate(replace(request, prompt=prompt))) for prompt in PROMPTS]
    seconds = time.perf_counter() - began
    return seconds, np.stack([np.asarray(result.images[0].image, dtype=np.float64) for result in results])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean PSNR in dB over the pictures; inf where none differs."""
    errors = np.mean((one - other) ** 2, axis=(1, 2, 3))
    return float(np.mean([10 * math.log10(255**2 / error) if error else math.inf for error in errors]))


def compare(report: Report, ways: Sequence[str], arguments: argparse.Namespace, folder: str, stack: ExitStack) -> None:
    """All ways by turns."""
    running: dict[tuple[str, ...], AppServices] = {}
    for way in ways:
        flags = tuple(WAYS[way][0])
        if flags not in running:
            settings = parse_settings(["--data-dir", folder, *flags], environment={})
            running[flags] = create_services(settings, serve_http=False)
            stack.callback(running[flags].close)
    base = GenerationRequest(
        seed=5, sampler_name=arguments.sampler, steps=arguments.steps, width=arguments.size, height=arguments.size
    )
    rounds = []
    for _ in range(arguments.pairs + 1):
        found = {}
        for way in ways:
            given, options = WAYS[way]
            found[way] = drawn(running[tuple(given)], replace(base, override_settings=options))
        rounds.append(found)
    plain = [found[ways[0]] for found in rounds[1:]]
    for way in ways:
        mine = [found[way] for found in rounds[1:]]
        report.add(
            way,
            seconds=Figure.of([seconds for seconds, _ in mine]),
            ratio=ratios([seconds for seconds, _ in mine], [seconds for seconds, _ in plain]),
            psnr=round(distance(mine[0][1], plain[0][1]), 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sampler", default="Euler")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="these ways, beside float32")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    keep_freed_memory()
    report = Report("lossy")
    ways = ["float32", *(way for way in (arguments.only or WAYS) if way != "float32")]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        compare(report, ways, arguments, folder, stack)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
