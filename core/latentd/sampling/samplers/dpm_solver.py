"""DPM-Solver of mixed orders: "DPM fast" with fixed steps, "DPM adaptive" with an error estimate.

Source: Lu et al., "DPM-Solver" (2022), in k-diffusion's variables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentd.sampling.samplers.common import ancestral_step, level_at, ones_of, time_of
from latentd.sampling.samplers.run import Denoiser, SamplerRun

_RTOL = 0.05
_ATOL = 0.0078
_FIRST_STEP = 0.05
_ACCEPT_SAFETY = 0.81
_ERROR_FLOOR = 1e-8
_ALMOST_DONE = 1e-5
_MAX_ADAPTIVE_STEPS = 1000


@dataclass(slots=True)
class _Step:
    """One step from (x, time); the orders that are tried share its predictions."""

    denoiser: Denoiser
    x: Tensor
    time: Tensor
    _known: dict[str, Tensor] = field(default_factory=dict)

    def eps(self, key: str, x: Tensor, time: Tensor) -> Tensor:
        """The noise predicted at a point of the step; the model is called once for each ``key``."""
        if key not in self._known:
            sigma = level_at(time)
            self._known[key] = (x - self.denoiser(x, sigma * ones_of(x))) / sigma
        return self._known[key]

    def first(self) -> Tensor:
        """The noise predicted at the start."""
        return self.eps("eps", self.x, self.time)

    def order_1(self, target: Tensor) -> Tensor:
        h = target - self.time
        return self.x - level_at(target) * h.expm1() * self.first()

    def order_2(self, target: Tensor, r1: float = 1 / 2) -> Tensor:
        h, eps = target - self.time, self.first()
        s1 = self.time + r1 * h
        u1 = self.x - level_at(s1) * (r1 * h).expm1() * eps
        eps_1 = self.eps("eps_1", u1, s1)
        sigma = level_at(target)
        return self.x - sigma * h.expm1() * eps - sigma / (2 * r1) * h.expm1() * (eps_1 - eps)

    def order_3(self, target: Tensor, r1: float = 1 / 3, r2: float = 2 / 3) -> Tensor:
        h, eps = target - self.time, self.first()
        s1, s2 = self.time + r1 * h, self.time + r2 * h
        u1 = self.x - level_at(s1) * (r1 * h).expm1() * eps
        eps_1 = self.eps("eps_1", u1, s1)
        bend = (r2 / r1) * ((r2 * h).expm1() / (r2 * h) - 1) * (eps_1 - eps)
        u2 = self.x - level_at(s2) * (r2 * h).expm1() * eps - level_at(s2) * bend
        eps_2 = self.eps("eps_2", u2, s2)
        sigma = level_at(target)
        return self.x - sigma * h.expm1() * eps - sigma / r2 * (h.expm1() / h - 1) * (eps_2 - eps)


def _ends(run: SamplerRun) -> tuple[Tensor, Tensor]:
    """The times at which sampling starts and ends.

    :raises ValueError: a level is not positive.
    """
    if run.sigma_min <= 0 or run.sigma_max <= 0:
        raise ValueError("sigma_min and sigma_max must be positive for DPM fast and DPM adaptive")
    return time_of(torch.tensor(run.sigma_max)), time_of(torch.tensor(run.sigma_min))


def _ancestral_target(time: Tensor, target: Tensor, end: Tensor, eta: float) -> tuple[Tensor, Tensor | float]:
    """The time to step down to (not beyond the end), and the noise that leads back to ``target``."""
    if not eta:
        return target, 0.0
    down, _ = ancestral_step(level_at(time), level_at(target), eta)
    below = torch.minimum(end, time_of(down))
    return below, (level_at(target) ** 2 - level_at(below) ** 2) ** 0.5


@torch.no_grad()
def sample_dpm_fast(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached with ``run.steps`` model calls between the run's two levels."""
    start, end = _ends(run)
    count = run.steps // 3 + 1
    times = torch.linspace(start, end, count + 1)
    rest = run.steps % 3
    orders = [3] * (count - 1) + [rest] if rest else [3] * (count - 2) + [2, 1]
    for i, order in enumerate(orders):
        below, sigma_up = _ancestral_target(times[i], times[i + 1], end, run.eta)
        step = _Step(denoiser, x, times[i])
        sigma = level_at(times[i])
        run.report(i, sigma, sigma, x, x - sigma * step.first())
        x = (step.order_1, step.order_2, step.order_3)[order - 1](below)
        x = x + sigma_up * run.s_noise * run.noise()
    return x


@torch.no_grad()
def sample_dpm_adaptive(denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
    """The latent reached by steps of order three, their length chosen by the difference from order two.

    That error is measured over the whole batch, so the pictures of a batch influence one another.
    """
    time, end = _ends(run)
    atol, rtol = torch.tensor(_ATOL), torch.tensor(_RTOL)
    h, last_low, i = _FIRST_STEP, x, 0
    exponent = 1 / (1.5 if run.eta else 3)
    while time < end - _ALMOST_DONE and i < _MAX_ADAPTIVE_STEPS:
        target = torch.minimum(end, time + h)
        below, sigma_up = _ancestral_target(time, target, end, run.eta)
        step = _Step(denoiser, x, time)
        denoised = x - level_at(time) * step.first()
        low = step.order_2(below, r1=1 / 3)
        high = step.order_3(below)
        delta = torch.maximum(atol, rtol * torch.maximum(low.abs(), last_low.abs()))
        error = torch.linalg.norm((low - high) / delta) / x.numel() ** 0.5
        factor = 1 + math.atan((1 / (float(error) + _ERROR_FLOOR)) ** exponent - 1)
        h *= factor
        if factor >= _ACCEPT_SAFETY:
            last_low = low
            x = high + sigma_up * run.s_noise * run.noise()
            time = target
        run.report(i, level_at(time), level_at(time), x, denoised)
        i += 1
    return x
