"""DPM-Solver++ as stochastic differential equations, with noise from a Brownian path: SDE, 2M SDE and 3M SDE.

Source: Lu et al., "DPM-Solver++" (2022); k-diffusion, which derived 2M SDE and 3M SDE.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, derivative, level_at, ones_of, time_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun


@torch.no_grad()
def sample_dpmpp_sde(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by stochastic steps through a midpoint; the last, to zero, is an Euler step."""
    sigmas, ones = run.levels(), ones_of(x)
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        if sigmas[i + 1] == 0:
            x = x + derivative(x, sigmas[i], denoised) * (sigmas[i + 1] - sigmas[i])
            continue
        time, target = time_of(sigmas[i]), time_of(sigmas[i + 1])
        middle = time + (target - time) * 0.5
        x_middle = _stochastic_step(x, time, middle, denoised, run)
        # With the midpoint half-way, the first prediction has weight 0 in the whole step.
        x = _stochastic_step(x, time, target, denoiser(x_middle, level_at(middle) * ones), run)
    return x


def _stochastic_step(x: Tensor, time: Tensor, target: Tensor, denoised: Tensor, run: SamplerRun) -> Tensor:
    """``x`` moved from ``time`` to ``target``: a step below it by the ancestral rule, and noise to return to it."""
    down, up = ancestral_step(level_at(time), level_at(target), run.eta)
    below = time_of(down)
    x = (level_at(below) / level_at(time)) * x - (time - below).expm1() * denoised
    return x + run.sde_noise(level_at(time), level_at(target)) * run.s_noise * up


@torch.no_grad()
def sample_dpmpp_2m_sde(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by stochastic two-point multistep.

    ``run.solver_type`` is how the second order is corrected: "heun", or "midpoint" (the default).
    """
    sigmas, ones = run.levels(), ones_of(x)
    previous: Tensor | None = None
    h_previous: Tensor | None = None
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        if sigmas[i + 1] == 0:
            return denoised
        h = time_of(sigmas[i + 1]) - time_of(sigmas[i])
        eta_h = run.eta * h
        decay = (-h - eta_h).expm1().neg()
        x = sigmas[i + 1] / sigmas[i] * (-eta_h).exp() * x + decay * denoised
        if previous is not None and h_previous is not None:
            r = h_previous / h
            factor = decay / (-h - eta_h) + 1 if run.solver_type == "heun" else 0.5 * decay
            x = x + factor * (1 / r) * (denoised - previous)
        if run.eta:
            noise = run.sde_noise(sigmas[i], sigmas[i + 1])
            x = x + noise * sigmas[i + 1] * (-2 * eta_h).expm1().neg().sqrt() * run.s_noise
        previous, h_previous = denoised, h
    return x


@torch.no_grad()
def sample_dpmpp_3m_sde(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by stochastic three-point multistep."""
    sigmas, ones = run.levels(), ones_of(x)
    past: list[tuple[Tensor, Tensor]] = []  # (denoised, h) of the last two steps, newest first
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * ones)
        run.report(i, sigmas[i], sigmas[i], x, denoised)
        if sigmas[i + 1] == 0:
            return denoised
        h = time_of(sigmas[i + 1]) - time_of(sigmas[i])
        h_eta = h * (run.eta + 1)
        x = torch.exp(-h_eta) * x + (-h_eta).expm1().neg() * denoised
        if past:
            x = x + _multistep_correction(denoised, past, h, h_eta)
        if run.eta:
            noise = run.sde_noise(sigmas[i], sigmas[i + 1])
            x = x + noise * sigmas[i + 1] * (-2 * h * run.eta).expm1().neg().sqrt() * run.s_noise
        past = [(denoised, h), *past[:1]]
    return x


def _multistep_correction(denoised: Tensor, past: list[tuple[Tensor, Tensor]], h: Tensor, h_eta: Tensor) -> Tensor:
    """The terms of second and third order from one or two earlier predictions."""
    phi_2 = h_eta.neg().expm1() / h_eta + 1
    denoised_1, h_1 = past[0]
    r0 = h_1 / h
    slope = (denoised - denoised_1) / r0
    if len(past) == 1:
        return phi_2 * slope
    denoised_2, h_2 = past[1]
    r1 = h_2 / h
    bend = slope - (denoised_1 - denoised_2) / r1
    phi_3 = phi_2 / h_eta - 0.5
    return phi_2 * (slope + bend * r0 / (r0 + r1)) - phi_3 * (bend / (r0 + r1))
