"""LCM: sampling of latent consistency models. Source: Luo et al. (2023); AUTOMATIC1111's sampler."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


@torch.no_grad()
def sample_lcm(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The last prediction of the clean latent; each is made from the one before, with fresh noise added."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        x = denoised
        if sigmas[i + 1] > 0:
            x = x + sigmas[i + 1] * run.noise()
    return x
