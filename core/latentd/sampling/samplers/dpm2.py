"""DPM2: midpoint steps in the logarithm of the level. Source: k-diffusion, after DPM-Solver-2."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, churn, derivative, ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


def _midpoint_step(denoiser: Denoiser, x: Tensor, slope: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """Return ``x`` moved from level ``sigma`` to ``target`` with the slope at their geometric mean."""
    middle = sigma.log().lerp(target.log(), 0.5).exp()
    x_middle = x + slope * (middle - sigma)
    middle_slope = derivative(x_middle, middle, denoiser(x_middle, middle * ones_of(x)))
    return x + middle_slope * (target - sigma)


@torch.no_grad()
def sample_dpm_2(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """Return the latent reached by midpoint steps; the last, to zero, is an Euler step."""
    sigmas, ones = run.levels(), ones_of(x)
    steps = len(sigmas) - 1
    for i in range(steps):
        x, sigma_hat = churn(x, sigmas[i], steps, run)
        denoised = denoiser(x, sigma_hat * ones)
        slope = derivative(x, sigma_hat, denoised)
        run.report(i, sigmas[i], sigma_hat, x, denoised)
        if sigmas[i + 1] == 0:
            x = x + slope * (sigmas[i + 1] - sigma_hat)
        else:
            x = _midpoint_step(denoiser, x, slope, sigma_hat, sigmas[i + 1])
    return x


@torch.no_grad()
def sample_dpm_2_ancestral(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """Return the latent reached by midpoint steps to below each level, with noise added back."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        sigma_down, sigma_up = ancestral_step(sigmas[i], sigmas[i + 1], run.eta)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        slope = derivative(x, sigmas[i], denoised)
        if sigma_down == 0:
            x = x + slope * (sigma_down - sigmas[i])
        else:
            x = _midpoint_step(denoiser, x, slope, sigmas[i], sigma_down)
            x = x + run.noise() * run.s_noise * sigma_up
    return x
