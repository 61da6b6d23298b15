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
_GITS_SD1 = (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029)
_GITS_SDXL = (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029)
_AYS_32_SD1 = (
    *(14.615, 11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065, 3.5195609),
    *(3.13490466, 2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172, 1.61475335, 1.46540953),
    *(1.314849, 1.16642497, 1.03475547, 0.91573744, 0.80748169, 0.71202361, 0.621739, 0.53065202),
    *(0.4529096, 0.37491455, 0.27461819, 0.2011529, 0.14105873, 0.06682881, 0.03166121, 0.015),
)
_AYS_32_SDXL = (
    *(14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457),
    *(2.74396527, 2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443),
    *(0.80290886, 0.69660121, 0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517),
    *(0.26518925, 0.22326461, 0.17653877, 0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmaRequest:
    """The input of a scheduler: ``steps`` levels of ``schedule`` between ``sigma_min`` and ``sigma_max``."""

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
    """Options ``sigma_min``, ``sigma_max`` and ``rho``; 0 means that the option is not set."""

    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0


_NO_OVERRIDES = SigmaOverrides()


def _with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _from_floats(sigmas: list[float]) -> Tensor:
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Levels evenly spaced in their rho-th root, and a zero. Source: Karras et al. (2022), equation 5."""
    ramp = torch.linspace(0, 1, steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + ramp * (low - high)) ** rho)


def uniform(request: SigmaRequest) -> Tensor:
    """The model's own schedule: levels at evenly spaced timesteps, and a zero."""
    return request.schedule.uniform_sigmas(request.steps)


def karras(request: SigmaRequest) -> Tensor:
    """The schedule of Karras et al. (2022) with rho 7 unless asked otherwise."""
    return karras_sigmas(request.steps, request.sigma_min, request.sigma_max, request.rho or 7.0)


def exponential(request: SigmaRequest) -> Tensor:
    """Levels evenly spaced in their logarithm, and a zero."""
    return _with_zero(torch.linspace(math.log(request.sigma_max), math.log(request.sigma_min), request.steps).exp())


def polyexponential(request: SigmaRequest) -> Tensor:
    """Levels whose logarithm follows a power (rho, by default 1) of an even ramp, and a zero."""
    ramp = torch.linspace(1, 0, request.steps) ** (request.rho or 1.0)
    low, high = math.log(request.sigma_min), math.log(request.sigma_max)
    return _with_zero(torch.exp(ramp * (high - low) + low))


def _timestep_range(request: SigmaRequest) -> tuple[float, float]:
    ends = request.schedule.sigma_to_t(torch.tensor([request.sigma_max, request.sigma_min]))
    return ends[0].item(), ends[1].item()


def sgm_uniform(request: SigmaRequest) -> Tensor:
    """Stability's schedule: evenly spaced timesteps that stop one step before the lowest, and a zero."""
    start, end = _timestep_range(request)
    return _with_zero(request.schedule.t_to_sigma(torch.linspace(start, end, request.steps + 1)[:-1]))


def normal(request: SigmaRequest) -> Tensor:
    """Levels at evenly spaced timesteps of the range asked for, and a zero."""
    start, end = _timestep_range(request)
    return _with_zero(request.schedule.t_to_sigma(torch.linspace(start, end, request.steps)))


def simple(request: SigmaRequest) -> Tensor:
    """Every n-th of the model's levels from the highest down, and a zero."""
    sigmas = request.schedule.sigmas
    stride = len(sigmas) / request.steps
    return _from_floats([float(sigmas[-(1 + int(k * stride))]) for k in range(request.steps)])


def ddim(request: SigmaRequest) -> Tensor:
    """Every n-th of the model's levels from the second lowest up, in descending order, and a zero."""
    sigmas = request.schedule.sigmas
    stride = max(len(sigmas) // request.steps, 1)
    return _from_floats([float(sigma) for sigma in sigmas[1::stride].flip(0)])


def kl_optimal(request: SigmaRequest) -> Tensor:
    """Levels evenly spaced in their arc tangent; the last is the lowest level, without a zero after it."""
    low, high = torch.atan(torch.tensor(request.sigma_min)), torch.atan(torch.tensor(request.sigma_max))
    share = torch.arange(request.steps + 1) / request.steps
    return torch.tan(share * low + (1.0 - share) * high)


def align_your_steps(request: SigmaRequest) -> Tensor:
    """The tabulated levels of Sabour et al. (2024), interpolated in their logarithm, and a zero."""
    return _from_table(_AYS_SDXL if request.is_sdxl else _AYS_SD1, request)


def align_your_steps_32(request: SigmaRequest) -> Tensor:
    """The levels of Forge's table for 32 steps, interpolated in their logarithm, and a zero."""
    return _from_table(_AYS_32_SDXL if request.is_sdxl else _AYS_32_SD1, request)


def align_your_steps_gits(request: SigmaRequest) -> Tensor:
    """The levels that Forge tabulates by GITS (Chen et al., 2024), interpolated in their logarithm, and a zero.

    Source: Chen et al., "On the trajectory regularity of ODE-based diffusion sampling" (2024); Forge's table.
    """
    return _from_table(_GITS_SDXL if request.is_sdxl else _GITS_SD1, request)


def turbo(request: SigmaRequest) -> Tensor:
    """The levels of SD Turbo: every (1000/n)-th timestep counted from the last, and a zero."""
    counted = torch.arange(request.steps, 0, -1) * (1000.0 / request.steps) - 1
    return _with_zero(request.schedule.t_to_sigma(counted.round().clamp(0, 999)))


def _from_table(table: tuple[float, ...], request: SigmaRequest) -> Tensor:
    if request.steps == len(table):
        return _from_floats(list(table))
    places = np.linspace(0, 1, request.steps)
    logs = np.interp(places, np.linspace(0, 1, len(table)), np.log(table[::-1]))
    return _from_floats([float(sigma) for sigma in np.exp(logs)[::-1]])


def beta(request: SigmaRequest) -> Tensor:
    """Levels at the quantiles of a beta distribution, and a zero. Source: Lee et al. (2024)."""
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
    """The noise levels of a run: float32 on the CPU, descending, ``steps + 1`` of them for most schedules.

    A scheduler that was asked for takes precedence over the sampler's own. The overrides apply to it only.

    :param spec: the sampler.
    :param scheduler: named by the request or the option ``k_sched_type``; ``None`` if neither names one.
    :param own_scheduler: the scheduler that ``spec.scheduler`` names, or ``None``.
    :param steps: number of steps; 0 gives the final zero alone.
    :param discard_next_to_last: option ``always_discard_next_to_last_sigma``.
    :param overrides: options ``sigma_min``, ``sigma_max`` and ``rho``.
    :param schedule: the model's noise schedule.
    :param use_old_karras: option ``use_old_karras_scheduler_sigmas``: levels from 10 to 0.1. It applies to any
        scheduler that was asked for; of the samplers' own, only to Karras.
    :param beta_alpha: option ``beta_dist_alpha``, positive.
    :param beta_beta: option ``beta_dist_beta``, positive.
    :param is_sdxl: whether tables have SDXL's values.
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
