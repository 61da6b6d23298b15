"""Restart: Heun steps that go back up to a higher level and down again.

Source: Xu et al., "Restart sampling for improving generative processes" (2023), with AUTOMATIC1111's plan of restarts.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from latentd.sampling.samplers.common import derivative, ones_of
from latentd.sampling.samplers.heun import heun_step
from latentd.sampling.samplers.run import Denoiser, SamplerRun
from latentd.sampling.schedulers import karras_sigmas

_RESTART_FROM = 0.1
_RESTART_TO = 2.0
_FEWEST_STEPS = 20
_MANY_STEPS = 36


@torch.no_grad()
def sample_restart(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by Heun steps; with 20 or more steps, some go back up to a higher level."""
    ones = ones_of(x)
    arrived: Tensor | None = None
    for i, (sigma, target) in enumerate(restart_plan(run.levels())):
        if arrived is not None and arrived < sigma:
            x = x + run.noise() * (sigma**2 - arrived**2) ** 0.5
        denoised = denoiser(x, sigma * ones)
        run.report(i, target, sigma, x, denoised)
        x = heun_step(denoiser, x, derivative(x, sigma, denoised), sigma, target)
        arrived = target
    return x


def restart_plan(sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The steps as (from, to) levels for a schedule of ``len(sigmas) - 1`` steps in all."""
    steps = len(sigmas) - 1
    if steps < _FEWEST_STEPS:
        return list(pairwise(sigmas))
    restart_steps, times = (steps // 4, 2) if steps >= _MANY_STEPS else (9, 1)
    sigmas = karras_sigmas(steps - restart_steps * times, sigmas[-2].item(), sigmas[0].item()).to(sigmas.device)
    low, high = (int((sigmas - level).abs().argmin()) for level in (_RESTART_FROM, _RESTART_TO))
    plan: list[tuple[Tensor, Tensor]] = []
    for i in range(len(sigmas) - 1):
        plan.append((sigmas[i], sigmas[i + 1]))
        if i + 1 == low and high < low:
            ladder = karras_sigmas(restart_steps + 1, sigmas[low].item(), sigmas[high].item())[:-1].to(sigmas.device)
            plan.extend(list(pairwise(ladder)) * times)
    return plan
