"""A whole request for the carried tiny model beside the bare loop of the UNet calls and the decoding that it needs.

What is over 1 is the cost of everything else: planning, queue, prompts, sampler, progress, finishing, PNG. Both are
done by turns in one process, so only the ratio means anything on a shared machine. With ``--most`` it fails where the
median ratio is greater, which is how CI notices that a request became slower.

    python benchmarks/tiny_request.py --size 512 --steps 20 --most 1.5
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable

from _report import Figure, Report, ratios

from latentd.models.allocator import keep_freed_memory
from latentd.models.loaded import LoadedModel
from latentd.server.services import AppServices, create_services
from latentd.settings import parse_settings
from latentd.types import GenerationRequest


def bare(model: LoadedModel, steps: int, size: int) -> float:
    """Seconds of the UNet calls and the decoding of one picture, by the model's own modules; on the worker."""
    import torch

    sample = torch.randn(2, model.latent_channels, size // 8, size // 8)
    context = torch.randn(2, 77, model.context_width)
    assert model.vae is not None
    began = time.perf_counter()
    with torch.inference_mode():
        for step in range(steps):
            at = torch.full((2,), 999 - step)
            noise = model.unet(sample, at, encoder_hidden_states=context).sample
            sample = sample - 0.01 * noise
        model.vae.decode(sample[:1]).sample.clamp(-1, 1)
    return time.perf_counter() - began


def whole(services: AppServices, request: GenerationRequest) -> float:
    """Seconds until the picture's base64 text."""

    async def draw() -> None:
        result = await services.generate(request)
        await services.images.encode(result.images[0].image, result.images[0].info)

    began = time.perf_counter()
    asyncio.run(draw())
    return time.perf_counter() - began


def compare(report: Report, services: AppServices, arguments: argparse.Namespace) -> Figure:
    """Both by turns; the figure of their ratio."""
    size, steps = arguments.size, arguments.steps
    request = GenerationRequest(
        prompt="a red apple", seed=1, sampler_name="Euler", steps=steps, width=size, height=size
    )

    def bare_now(control: object) -> float:
        with services.models.lease() as model:
            return bare(model, steps, size)

    ways: tuple[Callable[[], float], ...] = (
        lambda: whole(services, request),
        lambda: asyncio.run(services.run_on_worker(bare_now, kind="benchmark")),
    )
    pairs: list[list[float]] = []
    for number in range(arguments.pairs + 2):
        pair = [way() for way in (ways if number % 2 else ways[::-1])]
        if number > 1:  # the first are for warming up
            pairs.append(pair if number % 2 else pair[::-1])
    wholes, bares = zip(*pairs, strict=True)
    ratio = ratios(wholes, bares)
    report.add(
        f"tiny model, {size}x{size}, {steps} steps, s", request=Figure.of(wholes), bare=Figure.of(bares), ratio=ratio
    )
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--most", type=float, help="fail where the median of the ratio is over this")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    keep_freed_memory()
    report = Report("tiny_request")
    with tempfile.TemporaryDirectory() as data:
        services = create_services(parse_settings(["--data-dir", data], environment={}), serve_http=False)
        try:
            ratio = compare(report, services, arguments)
        finally:
            services.close()
    report.write(arguments.json)
    return int(arguments.most is not None and ratio.median > arguments.most)


if __name__ == "__main__":
    sys.exit(main())
