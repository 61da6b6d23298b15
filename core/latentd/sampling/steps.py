"""Counts of steps: pure arithmetic, without torch."""

from __future__ import annotations

from latentd.sampling.spec import SamplerSpec

_MOST_STRENGTH = 0.999


def total_steps(spec: SamplerSpec, steps: int) -> int:
    """Return the steps that prompt editing and the refiner count: twice the request's for second-order samplers."""
    return 2 * steps if spec.second_order else steps


def setup_img2img_steps(
    steps: int, denoising_strength: float, fix_steps: bool = False, requested_steps: int | None = None
) -> tuple[int, int]:
    """Return the length of the full schedule and how many steps before its end sampling starts.

    Sampling makes the second number plus one steps. A strength of 0 with exact steps gives ``(0, ...)``: nothing to do.

    :param steps: the request's steps.
    :param denoising_strength: 0 to 1.
    :param fix_steps: option ``img2img_fix_steps``: exactly ``steps`` steps are made, of a longer schedule.
    :param requested_steps: exact steps of a second pass (hires fix); implies ``fix_steps``.
    """
    if not fix_steps and requested_steps is None:
        return steps, int(min(denoising_strength, _MOST_STRENGTH) * steps)
    exact = requested_steps or steps
    if denoising_strength <= 0:
        return 0, exact - 1
    return int(exact / min(denoising_strength, _MOST_STRENGTH)), exact - 1
