"""Numbers of steps: plain arithmetic, without torch."""

from __future__ import annotations

from latentd.sampling.spec import SamplerSpec

_MOST_STRENGTH = 0.999


def total_steps(spec: SamplerSpec, steps: int) -> int:
    """The steps that prompt editing and the refiner count: twice the request's for second-order samplers."""
    return 2 * steps if spec.second_order else steps


def setup_img2img_steps(
    steps: int, denoising_strength: float, fix_steps: bool = False, requested_steps: int | None = None
) -> tuple[int, int]:
    """``(length of the full schedule, t)``: sampling makes the last t + 1 steps of that schedule.

    A strength of 0 with exact steps gives the length 0: there is nothing to do. Rules: a1111-img2img-steps.

    :param steps: the request's steps.
    :param denoising_strength: 0 to 1.
    :param fix_steps: option ``img2img_fix_steps``: exactly ``steps`` steps of a longer schedule are made.
    :param requested_steps: exact steps of a second pass (hires fix); implies ``fix_steps``.
    """
    if not fix_steps and requested_steps is None:
        return steps, int(min(denoising_strength, _MOST_STRENGTH) * steps)
    exact = requested_steps or steps
    if denoising_strength <= 0:
        return 0, exact - 1
    return int(exact / min(denoising_strength, _MOST_STRENGTH)), exact - 1
