"""Schedules of noise levels: Uniform, Karras, Exponential and the rest, and which of them a run gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentd.sampling.beta_quantile import beta_quantile
from latentd.sampling.schedule import NoiseSchedule
from latentd.sampling.spec import SamplerSpec, SchedulerSpec, load_function

_OLD_KARRAS_RANGE = (0.1, 10.0)
_AYS_SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_AYS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmaRequest:
    """What a scheduler is asked for: ``steps`` levels of ``schedule`` between ``sigma_min`` and ``sigma_max``."""

    steps: int
    schedule: NoiseSchedule
    sigma_min: float
    sigma_max: float
    rho: float | None = None
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    is_sdxl: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmaOverrides:
    """Options ``sigma_min``, ``sigma_max`` and ``rho``; 0 means: not set."""

    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0


_NO_OVERRIDES = SigmaOverrides()


def _with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _from_floats(sigmas: list[float]) -> Tensor:
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Return levels evenly spaced in their rho-th root, and a zero. Source: Karras et al. (2022), equation 5."""
    ramp = torch.linspace(0, 1, steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + ramp * (low - high)) ** rho)


def uniform(request: SigmaRequest) -> Tensor:
    """Return the model's own schedule: levels at evenly spaced timesteps, and a zero."""
    return request.schedule.uniform_sigmas(request.steps)


def karras(request: SigmaRequest) -> Tensor:
    """Return the schedule of Karras et al. (2022) with rho 7 unless asked otherwise."""
    return karras_sigmas(request.steps, request.sigma_min, request.sigma_max, request.rho or 7.0)


def exponential(request: SigmaRequest) -> Tensor:
    """Return levels evenly spaced in their logarithm, and a zero."""
    return _with_zero(torch.linspace(math.log(request.sigma_max), math.log(request.sigma_min), request.steps).exp())


def polyexponential(request: SigmaRequest) -> Tensor:
    """Return levels whose logarithm follows a power (rho, by default 1) of an even ramp, and a zero."""
    ramp = torch.linspace(1, 0, request.steps) ** (request.rho or 1.0)
    low, high = math.log(request.sigma_min), math.log(request.sigma_max)
    return _with_zero(torch.exp(ramp * (high - low) + low))


def _timestep_range(request: SigmaRequest) -> tuple[float, float]:
    ends = request.schedule.sigma_to_t(torch.tensor([request.sigma_max, request.sigma_min]))
    return ends[0].item(), ends[1].item()


def sgm_uniform(request: SigmaRequest) -> Tensor:
    """Return Stability's schedule: evenly spaced timesteps that stop one step before the lowest, and a zero."""
    start, end = _timestep_range(request)
    return _with_zero(request.schedule.t_to_sigma(torch.linspace(start, end, request.steps + 1)[:-1]))


def normal(request: SigmaRequest) -> Tensor:
    """Return levels at evenly spaced timesteps of the range asked for, and a zero."""
    start, end = _timestep_range(request)
    return _with_zero(request.schedule.t_to_sigma(torch.linspace(start, end, request.steps)))


def simple(request: SigmaRequest) -> Tensor:
    """Return every n-th of the model's levels from the highest down, and a zero."""
    sigmas = request.schedule.sigmas
    stride = len(sigmas) / request.steps
    return _from_floats([float(sigmas[-(1 + int(k * stride))]) for k in range(request.steps)])


def ddim(request: SigmaRequest) -> Tensor:
    """Return every n-th of the model's levels from the second lowest up, in descending order, and a zero."""
    sigmas = request.schedule.sigmas
    stride = max(len(sigmas) // request.steps, 1)
    return _from_floats([float(sigma) for sigma in sigmas[1::stride].flip(0)])


def kl_optimal(request: SigmaRequest) -> Tensor:
    """Return levels evenly spaced in their arc tangent; the last is the lowest, no zero is appended."""
    low, high = torch.atan(torch.tensor(request.sigma_min)), torch.atan(torch.tensor(request.sigma_max))
    share = torch.arange(request.steps + 1) / request.steps
    return torch.tan(share * low + (1.0 - share) * high)


def align_your_steps(request: SigmaRequest) -> Tensor:
    """Return the tabulated levels of Sabour et al. (2024), interpolated in their logarithm, and a zero."""
    table = _AYS_SDXL if request.is_sdxl else _AYS_SD1
    if request.steps == len(table):
        return _from_floats(list(table))
    places = np.linspace(0, 1, request.steps)
    logs = np.interp(places, np.linspace(0, 1, len(table)), np.log(table[::-1]))
    return _from_floats([float(sigma) for sigma in np.exp(logs)[::-1]])


def beta(request: SigmaRequest) -> Tensor:
    """Return levels at the quantiles of a beta distribution, and a zero. Source: Lee et al. (2024)."""
    span = request.sigma_max - request.sigma_min
    shares = 1 - np.linspace(0, 1, request.steps)
    quantiles = [beta_quantile(float(share), request.beta_alpha, request.beta_beta) for share in shares]
    return _from_floats([request.sigma_min + quantile * span for quantile in quantiles])


def build_sigmas(
    spec: SamplerSpec,
    scheduler: SchedulerSpec | None,
    own_scheduler: SchedulerSpec | None,
    steps: int,
    schedule: NoiseSchedule,
    *,
    discard_next_to_last: bool = False,
    overrides: SigmaOverrides = _NO_OVERRIDES,
    use_old_karras: bool = False,
    beta_alpha: float = 0.6,
    beta_beta: float = 0.6,
    is_sdxl: bool = False,
) -> Tensor:
    """Return the noise levels of a run: float32 on the CPU, descending, ``steps + 1`` of them for most schedules.

    A scheduler that was asked for beats the sampler's own, and only then do the overrides apply.

    :param spec: the sampler.
    :param scheduler: what the request or the option ``k_sched_type`` names; ``None`` when nothing was asked for.
    :param own_scheduler: the scheduler that ``spec.scheduler`` names, or ``None``.
    :param steps: number of steps; 0 gives the final zero alone.
    :param discard_next_to_last: option ``always_discard_next_to_last_sigma``.
    :param overrides: options ``sigma_min``, ``sigma_max`` and ``rho``.
    :param use_old_karras: option ``use_old_karras_scheduler_sigmas``: levels from 10 to 0.1, for an own schedule only
        when that is Karras, for one asked for in any case.
    """
    asked = scheduler is not None and scheduler.function is not None
    chosen = scheduler if asked else own_scheduler
    discard = spec.discard_next_to_last_sigma or discard_next_to_last
    if steps <= 0:
        return torch.zeros(1)
    if chosen is None or chosen.function is None:
        sigmas = schedule.uniform_sigmas(steps + discard)
    else:
        old_range = use_old_karras and (asked or chosen.name == "karras")
        low, high = _OLD_KARRAS_RANGE if old_range else (schedule.sigma_min, schedule.sigma_max)
        rho: float | None = None
        if asked:
            low, high = overrides.sigma_min or low, overrides.sigma_max or high
            rho = overrides.rho or None if chosen.default_rho >= 0 else None
        request = SigmaRequest(
            steps=steps + discard,
            schedule=schedule,
            sigma_min=low,
            sigma_max=high,
            rho=rho,
            beta_alpha=beta_alpha,
            beta_beta=beta_beta,
            is_sdxl=is_sdxl,
        )
        sigmas = load_function(chosen.function)(request)
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if discard else sigmas
