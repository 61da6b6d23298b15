"""Formulas that several samplers share. Source: Karras et al. (2022) and k-diffusion's ancestral steps."""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.run import SamplerRun

_MOST_CHURN = 2**0.5 - 1


def ones_of(x: Tensor) -> Tensor:
    """Ones ``(B,)``; multiplied by a level they are that level for each picture of the batch."""
    return x.new_ones([x.shape[0]])


def derivative(x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
    """The derivative dx/dsigma of the probability flow."""
    return (x - denoised) / sigma


def ancestral_step(sigma_from: Tensor, sigma_to: Tensor, eta: float) -> tuple[Tensor, Tensor | float]:
    """The level to step down to and the noise to add so that ``sigma_to`` is reached."""
    if not eta:
        return sigma_to, 0.0
    spread = (sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2) ** 0.5
    sigma_up = torch.minimum(sigma_to, eta * spread)
    return (sigma_to**2 - sigma_up**2) ** 0.5, sigma_up


def churn(x: Tensor, sigma: Tensor, steps: int, run: SamplerRun) -> tuple[Tensor, Tensor]:
    """The latent with noise added, and its new level, for samplers with s_churn.

    Noise is drawn even if none is added, because later draws, and so the picture, depend on it.
    """
    gamma = min(run.s_churn / steps, _MOST_CHURN) if run.s_tmin <= sigma <= run.s_tmax else 0.0
    noise = run.noise() * run.s_noise
    sigma_hat = sigma * (gamma + 1)
    if gamma > 0:
        x = x + noise * (sigma_hat**2 - sigma**2) ** 0.5
    return x, sigma_hat


def time_of(sigma: Tensor) -> Tensor:
    """The time in which DPM-Solver steps: minus the logarithm of a level."""
    return sigma.log().neg()


def level_at(time: Tensor) -> Tensor:
    """The level at a time."""
    return time.neg().exp()
