"""Convolutions by Winograd's algorithm beside torch's own, at the shapes of Stable Diffusion 1.5's UNet and VAE.

Both by turns in one process, with freed memory kept as the server keeps it. The error is the distance from the same
convolution in float64, as a part of its norm. Prints a table; asserts nothing.

    python benchmarks/convolution.py --rounds 5
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _report import Figure, Report, ratios
from torch import Tensor

from latentd.models.allocator import keep_freed_memory
from latentd.models.modules.winograd import convolve

#: (pictures, channels, output channels, side of the maps): the UNet's for 512x512 and two prompts, then the VAE's.
SHAPES = (
    (2, 320, 320, 64),
    (2, 640, 320, 64),
    (2, 960, 320, 64),
    (2, 640, 640, 32),
    (2, 1280, 640, 32),
    (1, 512, 512, 64),
    (1, 512, 512, 128),
    (1, 256, 256, 256),
    (1, 128, 128, 256),
)


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of ``run``, and what it gave."""
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def operands(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """A random input [B,C,h,w] and weight [K,C,3,3]."""
    batch, channels, outputs, side = shape
    return torch.randn(batch, channels, side, side), torch.randn(outputs, channels, 3, 3)


def compare(report: Report, shape: tuple[int, int, int, int], rounds: int) -> None:
    """Both algorithms by turns at one shape."""
    batch, channels, outputs, side = shape
    x, weight = operands(shape)
    pairs = []
    for _ in range(rounds + 1):
        mine = timed(lambda: convolve(x, weight, None))
        pairs.append((mine, timed(lambda: F.conv2d(x, weight, padding=1))))
    (_, winograd), (_, direct) = pairs.pop(0)  # the first is for warming up
    exact = F.conv2d(x[:1].double(), weight.double(), padding=1)
    errors = [float((found[:1] - exact).norm() / exact.norm()) for found in (winograd, direct)]
    seconds = [[1000 * side[0] for side in sides] for sides in zip(*pairs, strict=True)]
    report.add(
        f"{channels} to {outputs} channels, {batch}x{side}x{side}, ms",
        winograd=Figure.of(seconds[0]),
        torch=Figure.of(seconds[1]),
        ratio=ratios(*seconds),
        error=f"{errors[0]:.1e}",
        error_of_torch=f"{errors[1]:.1e}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    keep_freed_memory()
    report = Report("convolution")
    with torch.inference_mode():
        for shape in SHAPES:  # the heap grows to its size before anything is timed
            convolve(*operands(shape), None)
        for shape in SHAPES:
            compare(report, shape, arguments.rounds)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
