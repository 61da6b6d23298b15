"""DDIM, plain and CFG++. Source: Song et al. (2020); AUTOMATIC1111's implementation since 1.6; Chung et al. (2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ones_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


@dataclass(frozen=True, slots=True)
class AlphaTable:
    """The cumulative products at a run's timesteps, ``(n,)``: at the start of each step, and at its end."""

    here: Tensor
    there: Tensor
    sqrt_one_minus: Tensor

    @classmethod
    def of(cls, run: SamplerRun) -> AlphaTable:
        """The table for ``run``: each step ends at the next lower timestep, that of index 0 at timestep 0."""
        times, alphas = run.times().cpu(), run.schedule.alphas_cumprod.cpu()
        here = alphas[times]
        there = alphas[torch.cat([times.new_zeros(1), times[:-1]])].double()
        return cls(here, there, torch.sqrt(1 - here))

    def x0(self, index: int, x: Tensor, eps: Tensor) -> Tensor:
        """The clean latent that the noise ``eps`` implies."""
        ones = ones_of(x).view(-1, 1, 1, 1)
        return (x - self.sqrt_one_minus[index].item() * ones * eps) / (self.here[index].item() * ones).sqrt()

    def sigmas(self, eta: float) -> Tensor:
        """The noise that each step adds, float64."""
        return eta * torch.sqrt((1 - self.there) / (1 - self.here) * (1 - self.here / self.there))


@torch.no_grad()
def sample_ddim(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by DDIM steps; the lowest timestep is not evaluated."""
    return _ddim(denoiser, x, run, use_uncond=False)


@torch.no_grad()
def sample_ddim_cfgpp(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by DDIM steps whose direction is the unconditional noise.

    The denoiser must have ``last_uncond_eps``, and a CFG scale already multiplied by the sampler's factor.
    """
    return _ddim(denoiser, x, run, use_uncond=True)


def _ddim(denoiser: Denoiser, x: Tensor, run: SamplerRun, use_uncond: bool) -> Tensor:
    table, times, ones = AlphaTable.of(run), run.times(), ones_of(x)
    sigmas = table.sigmas(run.eta)
    column = ones.view(-1, 1, 1, 1)
    last = len(times) - 1
    for i in range(last):
        index = last - i
        eps = denoiser(x, times[index].item() * ones)
        direction: Tensor = denoiser.last_uncond_eps if use_uncond else eps  # type: ignore[attr-defined]
        x0 = table.x0(index, x, eps)
        arrival, sigma = table.there[index].item() * column, sigmas[index].item() * column
        step = (1.0 - arrival - sigma**2).sqrt() * direction
        x = arrival.sqrt() * x0 + step + sigma * run.noise()
        run.report(i, 0.0, 0.0, x, x0)
    return x
