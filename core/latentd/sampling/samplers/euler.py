"""Euler's method, plain and ancestral. Source: Karras et al. (2022), algorithm 2; k-diffusion."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, churn, derivative, ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


@torch.no_grad()
def sample_euler(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by Euler steps."""
    sigmas, ones = run.levels(), ones_of(x)
    steps = len(sigmas) - 1
    for i in range(steps):
        x, sigma_hat = churn(x, sigmas[i], steps, run)
        denoised = denoiser(x, sigma_hat * ones)
        run.report(i, sigmas[i], sigma_hat, x, denoised)
        x = x + derivative(x, sigma_hat, denoised) * (sigmas[i + 1] - sigma_hat)
    return x


@torch.no_grad()
def sample_euler_ancestral(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by Euler steps that go below each level and add noise to return to it."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        sigma_down, sigma_up = ancestral_step(sigmas[i], sigmas[i + 1], run.eta)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        x = x + derivative(x, sigmas[i], denoised) * (sigma_down - sigmas[i])
        if sigmas[i + 1] > 0:
            x = x + run.noise() * run.s_noise * sigma_up
    return x
