"""Dtype and memory layout of a model's parts, and what speaks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from latentd.types import JsonValue

Part = Literal["unet", "text", "vae"]
PARTS: tuple[Part, ...] = ("unet", "text", "vae")

#: What each part may compute in. float16 is left out for VAEs, in which SDXL's overflows.
CANDIDATES: Mapping[Part, tuple[str, ...]] = {
    "unet": ("float32", "bfloat16", "float16"),
    "text": ("float32", "bfloat16", "float16"),
    "vae": ("float32", "bfloat16"),
}
#: How many times as fast as float32 a shorter dtype must be, and as the other layout channels-last: below, it is noise.
WORTH_ROUNDING, WORTH_CHANGING = 1.25, 1.05


@dataclass(frozen=True, slots=True)
class Precision:
    """Dtype of a part's weights, spelled as in torch, and whether those of its convolutions lie channels-last."""

    dtype: str
    channels_last: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one part's operations took; the least of the rounds."""

    part: Part
    dtype: str
    channels_last: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured for one family."""

    family: str
    timings: tuple[Timing, ...]

    def choice(self, part: Part) -> Precision:
        """The fastest dtype and layout of ``part``; a shorter dtype or another layout must be worth it."""
        best = {dtype: self._best_layout(part, dtype) for dtype in CANDIDATES[part]}
        plain = best.pop("float32")
        fastest = min(best.values(), key=lambda timing: timing.seconds)
        chosen = fastest if fastest.seconds * WORTH_ROUNDING < plain.seconds else plain
        return Precision(chosen.dtype, channels_last=chosen.channels_last)

    def rows(self) -> list[JsonValue]:
        """Every timing, ready for JSON."""
        return [asdict(timing) for timing in self.timings]

    def told(self, part: Part) -> str:
        """The choice for ``part`` with the milliseconds of every candidate."""
        found = self.choice(part)
        layout = ", channels-last" if found.channels_last else ""
        each = (
            f"{timing.dtype}{' channels-last' * timing.channels_last} {1000 * timing.seconds:.0f} ms"
            for timing in self.timings
            if timing.part == part
        )
        return f"{part} in {found.dtype}{layout} ({', '.join(each)})"

    def _best_layout(self, part: Part, dtype: str) -> Timing:
        of = {t.channels_last: t for t in self.timings if (t.part, t.dtype) == (part, dtype)}
        plain, last = of[False], of.get(True)
        return last if last is not None and last.seconds * WORTH_CHANGING < plain.seconds else plain
