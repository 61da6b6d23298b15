"""Dynamic thresholding (after Saharia et al. 2022, arXiv 2205.11487, for latents).

It uses a high CFG scale, and gives the result the spread of values that a low one, the mimic scale, would have given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from latentd.api import Generation, GuidedStep, UNetHook
from latentd_guidance.technique import Arguments, Technique, slider

if TYPE_CHECKING:
    from torch import Tensor

Course = Literal[
    "Constant",
    "Linear Down",
    "Cosine Down",
    "Half Cosine Down",
    "Linear Up",
    "Cosine Up",
    "Half Cosine Up",
    "Power Up",
    "Power Down",
    "Linear Repeating",
    "Cosine Repeating",
    "Sawtooth",
]
LAST_STEP = 998
"""Steps are counted along the model's timesteps, from 0 at 999 to this at 1."""


def _as_word(value: object) -> object:
    """The word for true and false, which clients of the original extension send."""
    return {True: "enable", False: "disable"}[value] if isinstance(value, bool) else value


class DynamicThresholdingArgs(Arguments):
    """``mimic_scale`` and the request's CFG scale, each on its course from the full value to its minimum."""

    mimic_scale: float = slider(7.0, "Mimic Scale", 0, 100, 0.5)
    threshold_percentile: float = slider(1.0, "Threshold Percentile", 0, 1, 0.01, ge=0, le=1)
    mimic_mode: Course = Field("Constant", title="Mimic Mode")
    mimic_scale_min: float = slider(0.0, "Mimic Scale Min", 0, 100, 0.5)
    cfg_mode: Course = Field("Constant", title="Cfg Mode")
    cfg_scale_min: float = slider(0.0, "Cfg Scale Min", 0, 100, 0.5)
    sched_val: float = slider(1.0, "Sched Val", 0, 100, 0.01, ge=0, le=1000)
    separate_feature_channels: Annotated[Literal["enable", "disable"], BeforeValidator(_as_word)] = Field(
        "enable", title="Separate Feature Channels"
    )
    scaling_startpoint: Literal["MEAN", "ZERO"] = Field("MEAN", title="Scaling Startpoint")
    variability_measure: Literal["AD", "STD"] = Field("AD", title="Variability Measure")
    interpolate_phi: float = slider(1.0, "Interpolate Phi", 0, 1, 0.01)


class DynamicThresholding(Technique[DynamicThresholdingArgs]):
    """High CFG scales without burnt colours."""

    title = "DynamicThresholding (CFG-Fix) Integrated"
    aliases = (
        "Dynamic Thresholding (CFG Scale Fix)",
        "DynamicThresholding (CFG-Fix) Integrated (SD 1.x, SD 2.x, SDXL)",
    )
    prefix = "dynthres_"
    Args = DynamicThresholdingArgs

    def hook(self, generation: Generation, args: DynamicThresholdingArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return DynamicThresholdingHook(args)


class DynamicThresholdingHook(UNetHook):
    """Adds the difference from plain guidance to the prediction so far, so that other techniques keep their effect."""

    def __init__(self, args: DynamicThresholdingArgs) -> None:
        self.args = args

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        """The thresholded combination in place of ``uncond + cfg_scale * (cond - uncond)``."""
        if step.uncond is None:
            return x0
        plain = step.uncond + (step.cond - step.uncond) * step.cfg_scale
        share = (LAST_STEP + 1 - float(step.timestep[0])) / LAST_STEP
        return x0 + combine(step.cond, step.uncond, step.cfg_scale, share, self.args) - plain


def scale_at(full: float, minimum: float, course: Course, share: float, value: float) -> float:
    """A scale at ``share`` of sampling (0 to 1); ``value`` is the course's power, or the number of its repetitions."""
    repeated = share * value % 1.0
    power: float = max(share, 0.0) ** value
    turn = math.pi / 2
    factors: dict[Course, float] = {
        "Constant": 1.0,
        "Linear Down": 1 - share,
        "Linear Up": share,
        "Half Cosine Down": math.cos(share),
        "Half Cosine Up": 1 - math.cos(share),
        "Cosine Down": math.cos(share * turn),
        "Cosine Up": 1 - math.cos(share * turn),
        "Power Up": power,
        "Power Down": 1 - power,
        "Linear Repeating": abs(0.5 - repeated) * 2,
        "Cosine Repeating": math.cos(share * 4 * turn * value) / 2 + 0.5,
        "Sawtooth": repeated,
    }
    return minimum + (full - minimum) * factors[course]


def combine(cond: Tensor, uncond: Tensor, cfg_scale: float, share: float, args: DynamicThresholdingArgs) -> Tensor:
    """Guidance at ``cfg_scale`` [B,C,h,w] whose spread is that of guidance at the mimic scale."""
    mimic_scale = scale_at(args.mimic_scale, args.mimic_scale_min, args.mimic_mode, share, args.sched_val)
    cfg_scale = scale_at(cfg_scale, args.cfg_scale_min, args.cfg_mode, share, args.sched_val)
    mimic, guided = (uncond + (cond - uncond) * scale for scale in (mimic_scale, cfg_scale))
    mean = guided.mean(dim=(2, 3), keepdim=True)
    centred = guided - mean
    wanted = spread(mimic - mimic.mean(dim=(2, 3), keepdim=True), args, 1.0)
    found = spread(centred, args, args.threshold_percentile)
    if args.scaling_startpoint == "ZERO":
        result = guided * (wanted / _above_zero(found))
    elif args.variability_measure == "STD":
        result = centred / _above_zero(found) * wanted + mean
    else:
        largest = found.maximum(wanted)
        result = centred.clamp(-largest, largest) / _above_zero(largest) * wanted + mean
    return result * args.interpolate_phi + guided * (1 - args.interpolate_phi)


def spread(centred: Tensor, args: DynamicThresholdingArgs, percentile: float) -> Tensor:
    """How far values lie from their mean: the deviation, or the ``percentile`` of the distances.

    [B,C,1,1] for separate channels, else one number over the whole batch.
    """
    separate = args.separate_feature_channels == "enable"
    values = centred.flatten(2) if separate else centred.flatten()
    deviation = args.variability_measure == "STD"
    found = values.std(dim=-1) if deviation else percentile_of(values.abs(), percentile)
    return found[..., None, None] if separate else found


def percentile_of(values: Tensor, percentile: float) -> Tensor:
    """The ``percentile`` (0 to 1) along the last dimension, between neighbours linearly."""
    ordered = values.sort(dim=-1).values
    place = percentile * (ordered.shape[-1] - 1)
    low, high = ordered[..., math.floor(place)], ordered[..., math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def _above_zero(values: Tensor) -> Tensor:
    import torch

    return values.clamp_min(torch.finfo(values.dtype).tiny)
