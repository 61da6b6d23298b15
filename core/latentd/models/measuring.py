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

#: A candidate that takes this many times the best one's time is measured no further.
HOPELESS = 2.0
#: One that takes this many times float32's for a small piece of work is not tried on a large one: without instructions
#: for a dtype, that would be minutes.
HOPELESS_IF_SMALL = 5.0
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Shapes:
    """Sizes of a family's middle level, in which it spends most of its time.

    :ivar channels: of its feature maps and hidden states. :ivar heads: of its attention. :ivar side: of the maps.
    :ivar text: width of the text encoder. :ivar decoded: channels of the VAE's maps; their side is twice the UNet's.
    """

    channels: int
    heads: int
    side: int = 32
    text: int = 768
    decoded: int = 256


SHAPES = {"sd1": Shapes(640, 8), "sd2": Shapes(640, 10), "sdxl": Shapes(640, 10), "sdxl-refiner": Shapes(768, 12)}
SMALL = Shapes(channels=64, heads=8, side=16, text=96, decoded=32)


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
    """Time every candidate of every part for ``family``; takes a few seconds.

    The time of a candidate that is hopeless for small work is reckoned from it.
    """
    import torch

    shapes = SHAPES.get(family, SHAPES["sd1"])
    timings = []
    with torch.inference_mode():
        for part in PARTS:
            found: list[Timing] = []
            small = _least(_WORK[part](SMALL, torch.float32, False))
            for dtype in CANDIDATES[part]:
                for last in (False,) if part == "text" else (False, True):
                    how = getattr(torch, dtype), last
                    behind = _least(_WORK[part](SMALL, *how)) / small
                    best = min((timing.seconds for timing in found), default=float("inf"))
                    hopeless = bool(found) and behind > HOPELESS_IF_SMALL
                    seconds = behind * found[0].seconds if hopeless else _least(_WORK[part](shapes, *how), best)
                    found.append(Timing(part, dtype, last, seconds))
            timings += found
    return Measured(family, tuple(timings))


def _least(run: Callable[[], object], best: float = float("inf")) -> float:
    """The least seconds of a few calls, the first left out, in which libraries prepare themselves.

    It is of fewer, if ``best`` is out of reach.
    """
    found = float("inf")
    for number in range(ROUNDS + 1):
        began = time.perf_counter()
        run()
        taken = time.perf_counter() - began
        if number or taken > HOPELESS_IF_SMALL * best:
            found = min(found, taken)
        if HOPELESS * best < found < float("inf"):
            break
    return found


def _unet_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    """A convolution, a linear layer and an attention, as often as a UNet has them, for both prompts of a picture."""
    import torch
    import torch.nn.functional as F

    width = shapes.channels
    convolution, picture = _convolution(2, width, shapes.side, dtype, last)
    wide = _linear(width, 8 * width, dtype)
    hidden = torch.randn(2, shapes.side**2, width).to(dtype)
    q = torch.randn(2, shapes.heads, shapes.side**2, width // shapes.heads).to(dtype)

    def run() -> Iterator[Tensor]:
        yield convolution(picture)
        yield wide(hidden)
        yield F.scaled_dot_product_attention(q, q, q)

    return lambda: list(run())


def _text_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    import torch

    layer = _linear(shapes.text, 4 * shapes.text, dtype)
    hidden = torch.randn(8 * 77, shapes.text).to(dtype)
    return lambda: layer(hidden)


def _vae_work(shapes: Shapes, dtype: torch.dtype, last: bool) -> Callable[[], object]:
    import torch.nn.functional as F

    convolution, picture = _convolution(1, shapes.decoded, 2 * shapes.side, dtype, last)
    return lambda: F.silu(convolution(picture))


_WORK = {"unet": _unet_work, "text": _text_work, "vae": _vae_work}


def _convolution(batch: int, width: int, side: int, dtype: torch.dtype, last: bool) -> tuple[nn.Module, Tensor]:
    import torch

    layout = torch.channels_last if last else torch.contiguous_format
    module = torch.nn.Conv2d(width, width, 3, padding=1).to(dtype).to(memory_format=layout)
    from latentd.models.modules.winograd import use_winograd

    if dtype == torch.float32 and not last:
        use_winograd(module)  # as models do
    return module, torch.randn(batch, width, side, side).to(dtype).to(memory_format=layout)


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
