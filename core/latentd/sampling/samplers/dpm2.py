"""DPM2: midpoint steps in the logarithm of the level. Source: k-diffusion, after DPM-Solver-2."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, derivative, ones_of
from latentd.sampling.samplers.heun import sample_with_churn
from latentd.sampling.samplers.run import Denoiser, SamplerRun


def sample_dpm_2(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by midpoint steps; the last, to zero, is an Euler step."""
    return sample_with_churn(denoiser, x, run, _midpoint_step)


def _midpoint_step(denoiser: Denoiser, x: Tensor, slope: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """``x`` moved from level ``sigma`` to ``target`` along the slope at their geometric mean."""
    if target == 0:
        return x + slope * (target - sigma)
    middle = sigma.log().lerp(target.log(), 0.5).exp()
    x_middle = x + slope * (middle - sigma)
    middle_slope = derivative(x_middle, middle, denoiser(x_middle, middle * ones_of(x)))
    return x + middle_slope * (target - sigma)


@torch.no_grad()
def sample_dpm_2_ancestral(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by midpoint steps that go below each level and add noise to return to it."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        sigma_down, sigma_up = ancestral_step(sigmas[i], sigmas[i + 1], run.eta)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        slope = derivative(x, sigmas[i], denoised)
        x = _midpoint_step(denoiser, x, slope, sigmas[i], sigma_down)
        if sigma_down != 0:
            x = x + run.noise() * run.s_noise * sigma_up
    return x
