"""Descriptions of checkpoints, which recognition creates and loading reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentd.models.untyped import ModelConfig
from latentd.types import OptionValues

Family = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Variant = Literal["base", "inpainting", "edit"]
PredictionType = Literal["eps", "v"]
TextKind = Literal["clip", "openclip"]

LINEAR_START, LINEAR_END, STEPS = 0.00085, 0.012, 1000
"""The noise schedule of every family, unless a file says otherwise."""
SCALE_FACTORS: dict[Family, float] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025, "sdxl-refiner": 0.13025}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightStorage:
    """The form in which a checkpoint's weights are kept: options ``fp8_storage`` and ``cache_fp16_weight``."""

    fp8: str = "Disable"
    keep_fp16: bool = False

    @classmethod
    def of(cls, options: OptionValues) -> WeightStorage:
        """The form that ``options`` ask for."""
        fp8 = str(options["fp8_storage"])
        return cls(fp8=fp8, keep_fp16=fp8 != "Disable" and bool(options["cache_fp16_weight"]))

    def is_fp8(self, family: Family) -> bool:
        """Whether a model of ``family`` is kept in eight bits."""
        return self.fp8 == "Enable" or (self.fp8 == "Enable for SDXL" and family in ("sdxl", "sdxl-refiner"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextArchitecture:
    """One text encoder.

    ``prefix`` is that of its weights in the checkpoint; ``projection`` is the width of its pooled vector, or None;
    ``lacks_last`` tells that the last layer, which SD 2 does not use, was left out when the file was made.
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
    lacks_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A recognised checkpoint.

    ``unet`` and ``vae`` are arguments of diffusers' classes; ``vae`` is None if the file has none. If
    ``prediction_type`` is None, it must be found out by running the UNet. The betas of the schedule are the squares of
    ``steps`` values evenly spaced between the roots of ``linear_start`` and ``linear_end``; with ``zero_terminal_snr``
    the schedule is stretched to end in pure noise.
    """

    family: Family
    variant: Variant
    unet: ModelConfig
    vae: ModelConfig | None
    text: tuple[TextArchitecture, ...]
    prediction_type: PredictionType | None
    scale_factor: float
    linear_start: float = LINEAR_START
    linear_end: float = LINEAR_END
    steps: int = STEPS
    zero_terminal_snr: bool = False
