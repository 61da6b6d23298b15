"""What a checkpoint is: values that recognition fills in and construction reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Variant = Literal["base", "inpainting", "edit"]
PredictionType = Literal["eps", "v"]
TextKind = Literal["clip", "openclip"]

SCALE_FACTORS: dict[Family, float] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025, "sdxl-refiner": 0.13025}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextArchitecture:
    """One text encoder.

    ``prefix`` is where its weights stand in the checkpoint, ``projection`` its pooled width or None.
    """

    kind: TextKind
    prefix: str
    width: int
    inner_width: int
    layers: int
    heads: int
    vocabulary: int
    positions: int
    projection: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A recognised checkpoint.

    ``unet`` and ``vae`` are arguments of diffusers' classes (``vae`` None: the file has none). ``prediction_type`` None
    means that only running the UNet can tell. The schedule is the square of ``steps`` values spaced evenly from
    ``linear_start``'s root to ``linear_end``'s.
    """

    family: Family
    variant: Variant
    unet: dict[str, Any]
    vae: dict[str, Any] | None
    text: tuple[TextArchitecture, ...]
    prediction_type: PredictionType | None
    scale_factor: float
    linear_start: float = 0.00085
    linear_end: float = 0.012
    steps: int = 1000
