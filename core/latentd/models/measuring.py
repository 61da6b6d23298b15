"""Which dtype and memory layout this machine computes a family of models in fastest: measured, never assumed.

It serves ``--dtype auto``: a dtype may be three times as fast as float32 on one processor, and three times as slow on
another of the same name. Each part's characteristic operations are timed once at the family's widths, in every dtype
that may serve; the result is kept by processor, torch version and number of threads.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.atomic import write_atomically
from latentd.json_file import read_object
from latentd.models.devices import DevicePolicy
from latentd.models.precision import CANDIDATES, PARTS, Measured, Timing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger(__name__)

#: A candidate that takes this many times the best one's time in its second round is measured no further.
HOPELESS = 2.0
#: The same for its first round, into which the library's own preparations go.
HOPELESS_AT_ONCE = 6.0
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes at which a family's parts are timed.

    :ivar channels: of the UNet's middle level, in which it spends most of its time. :ivar heads: of its attention.
    :ivar side: of its feature maps. :ivar tokens: of its hidden states. :ivar text_width: of the text encoder.
    :ivar vae_channels: of the VAE's feature maps. :ivar vae_side: of these.
    """

    channels: int
    heads: int
    side: int = 24
    tokens: int = 1024
    text_width: int = 768
    vae_channels: int = 256
    vae_side: int = 64


SHAPES = {"sd1": Shapes(640, 8), "sd2": Shapes(640, 10), "sdxl": Shapes(640, 10), "sdxl-refiner": Shapes(768, 12)}


def measured_policy(cache: Path) -> Callable[[DevicePolicy, str], DevicePolicy]:
    """A function of (policy, family) that fits a CPU's policy to the family; what it measures is kept in ``cache``."""

    def fit(policy: DevicePolicy, family: str) -> DevicePolicy:
        key = "|".join((_machine(), family))
        kept = read_object(cache)
        found = _read(family, kept.get(key))
        if found is None:
            found = measure(family)
            kept[key] = found.rows()
            with suppress(OSError):  # it will be measured again
                write_atomically(cache, json.dumps(kept, indent=1).encode())
        log.info("measured for %s: %s", family, "; ".join(found.told(part) for part in PARTS))
        return replace(policy, parts={part: found.choice(part) for part in PARTS}, measured=found)

    return fit


def measure(family: str) -> Measured:
    """Time every candidate of every part for ``family``; takes a few seconds."""
    import torch

    shapes = SHAPES.get(family, SHAPES["sd1"])
    work = {"unet": _unet_work, "text": _text_work, "vae": _vae_work}
    timings = []
    with torch.inference_mode():
        for part in PARTS:
            best = float("inf")
            for dtype in CANDIDATES[part]:
                for last in (False,) if part == "text" else (False, True):
                    run = work[part](shapes, getattr(torch, dtype), last)
                    seconds = _least(run, best)
                    timings.append(Timing(part, dtype, last, seconds))
                    best = min(best, seconds)
    return Measured(family, tuple(timings))


def _least(run: Callable[[], object], best: float) -> float:
    """The least seconds of a few calls; of fewer, if they show that ``best`` is out of reach."""
    found = float("inf")
    for number in range(ROUNDS):
        began = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - began)
        if found > best * (HOPELESS if number else HOPELESS_AT_ONCE):
            break
    return found


def _unet_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    """One residual convolution, one feed-forward network and one self-attention, as often as a UNet has them."""
    import torch
    import torch.nn.functional as F

    width = shapes.channels
    convolution, picture = _convolution(width, shapes.side, dtype, last)
    wide = _linear(width, 8 * width, dtype)
    hidden = torch.randn(shapes.tokens, width).to(dtype)
    q = torch.randn(1, shapes.heads, shapes.tokens, width // shapes.heads).to(dtype)

    def run() -> Iterator[Tensor]:
        yield convolution(picture)
        yield wide(hidden)
        yield F.scaled_dot_product_attention(q, q, q)

    return lambda: list(run())


def _text_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    import torch

    layer = _linear(shapes.text_width, 4 * shapes.text_width, dtype)
    hidden = torch.randn(8 * 77, shapes.text_width).to(dtype)
    return lambda: layer(hidden)


def _vae_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    import torch.nn.functional as F

    convolution, picture = _convolution(shapes.vae_channels, shapes.vae_side, dtype, last)
    return lambda: F.silu(convolution(picture))


def _convolution(width: int, side: int, dtype: torch.dtype, last: bool) -> tuple[nn.Module, Tensor]:
    import torch

    layout = torch.channels_last if last else torch.contiguous_format
    module = torch.nn.Conv2d(width, width, 3, padding=1).to(dtype).to(memory_format=layout)
    return module, torch.randn(1, width, side, side).to(dtype).to(memory_format=layout)


def _linear(inner: int, outer: int, dtype: torch.dtype) -> nn.Module:
    import torch

    return torch.nn.Linear(inner, outer).to(dtype)


def _machine() -> str:
    import torch

    threads = torch.get_num_threads()
    return f"{processor()}|{torch.backends.cpu.get_cpu_capability()}|torch {torch.__version__}|{threads} threads"


def processor() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(family: str, kept: object) -> Measured | None:
    """What an earlier process measured; None for anything else."""
    try:
        assert isinstance(kept, list)
        timings = tuple(
            Timing(entry["part"], str(entry["dtype"]), bool(entry["channels_last"]), float(entry["seconds"]))
            for entry in kept
        )
        found = Measured(family, timings)
        for part in PARTS:
            found.choice(part)
    except (AssertionError, KeyError, TypeError, ValueError):
        return None
    return found
