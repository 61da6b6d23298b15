"""Resolution and thresholds of a unit, within the sliders of its module (rules: a1111-controlnet-parameters)."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.api import PreprocessorSpec
from latentd_controlnet.preprocessors.table import FIXED_RESOLUTION

#: The slider that the original assumes for modules without one: from 0 to 1, by default 0.5.
HIDDEN = (0.0, 1.0, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The values with which a module runs, and which stand in the infotext."""

    resolution: float
    threshold_a: float
    threshold_b: float


def resolve(spec: PreprocessorSpec, resolution: float, threshold_a: float, threshold_b: float) -> Parameters:
    """Each value if it is within its slider's range, else the slider's default."""
    if spec.resolution is not None:
        low, high, default, _ = spec.resolution
        resolution = _within(resolution, low, high, default)
    elif spec.name in FIXED_RESOLUTION:
        resolution = FIXED_RESOLUTION[spec.name]
    else:
        resolution = _within(resolution, *HIDDEN)
    thresholds = []
    for index, value in enumerate((threshold_a, threshold_b)):
        slider = spec.sliders[index] if index < len(spec.sliders) else ("", *HIDDEN, 0.0)
        thresholds.append(_within(value, *slider[1:4]))
    return Parameters(resolution=resolution, threshold_a=thresholds[0], threshold_b=thresholds[1])


def _within(value: float, low: float, high: float, default: float) -> float:
    return value if low <= value <= high else default
