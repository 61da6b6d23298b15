"""DPM-Solver++ without a Brownian path: 2M and 2S ancestral.

Source: Lu et al., "DPM-Solver++" (2022), in k-diffusion's variables.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, derivative, level_at, ones_of, time_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


@torch.no_grad()
def sample_dpmpp_2m(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by two-point multistep; the first and last steps are of first order."""
    sigmas, ones = run.levels(), ones_of(x)
    previous: Tensor | None = None
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        time, target = time_of(sigmas[i]), time_of(sigmas[i + 1])
        h = target - time
        estimate = denoised
        if previous is not None and sigmas[i + 1] != 0:
            r = (time - time_of(sigmas[i - 1])) / h
            estimate = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * previous
        x = (level_at(target) / level_at(time)) * x - (-h).expm1() * estimate
        previous = denoised
    return x


@torch.no_grad()
def sample_dpmpp_2s_ancestral(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by single steps through a midpoint that go below each level and add noise to return to it."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        sigma_down, sigma_up = ancestral_step(sigmas[i], sigmas[i + 1], run.eta)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        if sigma_down == 0:
            x = x + derivative(x, sigmas[i], denoised) * (sigma_down - sigmas[i])
        else:
            time, target = time_of(sigmas[i]), time_of(sigma_down)
            h = target - time
            middle = time + 0.5 * h
            x_middle = (level_at(middle) / level_at(time)) * x - (-h * 0.5).expm1() * denoised
            denoised = denoiser(x_middle, level_at(middle) * ones)
            x = (level_at(target) / level_at(time)) * x - (-h).expm1() * denoised
        if sigmas[i + 1] > 0:
            x = x + run.noise() * run.s_noise * sigma_up
    return x
