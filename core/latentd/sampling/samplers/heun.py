"""Heun's method. Source: Karras et al. (2022), algorithm 2; k-diffusion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentd.sampling.samplers.common import churn, derivative, ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun

#: (denoiser, x, slope at sigma, sigma, target) -> the latent at level target.
Step = Callable[[Denoiser, Tensor, Tensor, Tensor, Tensor], Tensor]


def sample_heun(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by trapezoidal steps; the last, to zero, is an Euler step."""
    return sample_with_churn(denoiser, x, run, heun_step)


@torch.no_grad()
def sample_with_churn(denoiser: Denoiser, x: Tensor, run: SamplerRun, step: Step) -> Tensor:
    """The latent reached by ``step`` from level to level, with noise added before each step (s_churn)."""
    sigmas, ones = run.levels(), ones_of(x)
    steps = len(sigmas) - 1
    for i in range(steps):
        x, sigma_hat = churn(x, sigmas[i], steps, run)
        denoised = denoiser(x, sigma_hat * ones)
        slope = derivative(x, sigma_hat, denoised)
        run.report(i, sigmas[i], sigma_hat, x, denoised)
        x = step(denoiser, x, slope, sigma_hat, sigmas[i + 1])
    return x


def heun_step(denoiser: Denoiser, x: Tensor, slope: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """``x`` moved from level ``sigma``, where its slope is ``slope``, to ``target``."""
    dt = target - sigma
    end = x + slope * dt
    if target == 0:
        return end
    end_slope = derivative(end, target, denoiser(end, target * ones_of(x)))
    return x + (slope + end_slope) / 2 * dt
