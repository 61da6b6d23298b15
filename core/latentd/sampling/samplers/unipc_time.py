"""UniPC's continuous view of a discrete schedule: log alpha is piecewise linear in a time from 1/T to 1.

Source: Lu et al., "DPM-Solver" (2022), appendix on discrete-time models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.sampling.schedule import NoiseSchedule

SKIP_TYPES = ("time_uniform", "time_quadratic", "logSNR")


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """The piecewise linear function through (knots, values) at ``x``; beyond the ends the outer pieces continue."""
    low = (torch.searchsorted(knots, x.reshape(-1)) - 1).clamp(0, len(knots) - 2).view(x.shape)
    x0, x1, y0, y1 = knots[low], knots[low + 1], values[low], values[low + 1]
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class ContinuousTime:
    """log alpha at the times (i + 1) / T of a model with T timesteps; both ``(T,)`` float32, times ascending."""

    times: Tensor
    log_alphas: Tensor

    @classmethod
    def of(cls, schedule: NoiseSchedule) -> ContinuousTime:
        """The continuous view of ``schedule``."""
        log_alphas = 0.5 * torch.log(schedule.alphas_cumprod.float().cpu())
        return cls(torch.linspace(0.0, 1.0, len(log_alphas) + 1)[1:], log_alphas)

    def log_alpha(self, t: Tensor) -> Tensor:
        """The logarithm of alpha at time ``t``."""
        return _interpolate(t, self.times, self.log_alphas)

    def alpha(self, t: Tensor) -> Tensor:
        """Alpha, the factor of the clean latent."""
        return torch.exp(self.log_alpha(t))

    def sigma(self, t: Tensor) -> Tensor:
        """Sigma, the factor of the noise: alpha squared plus sigma squared is 1."""
        return torch.sqrt(1.0 - torch.exp(2.0 * self.log_alpha(t)))

    def log_snr(self, t: Tensor) -> Tensor:
        """Half the logarithm of the signal-to-noise ratio, log(alpha / sigma)."""
        log_alpha = self.log_alpha(t)
        return log_alpha - 0.5 * torch.log(1.0 - torch.exp(2.0 * log_alpha))

    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time at which :meth:`log_snr` has this value."""
        log_alpha = -0.5 * torch.logaddexp(torch.zeros_like(log_snr), -2.0 * log_snr)
        return _interpolate(log_alpha, self.log_alphas.flip(0), self.times.flip(0))

    def grid(self, skip_type: str, start: Tensor, steps: int) -> Tensor:
        """``steps + 1`` times from ``start`` down to the first.

        :param skip_type: one of :data:`SKIP_TYPES`.
        :raises ValueError: another skip type.
        """
        first = torch.tensor(1.0 / len(self.times))
        if skip_type == "time_uniform":
            return torch.linspace(start.item(), first.item(), steps + 1)
        if skip_type == "time_quadratic":
            return torch.linspace(start.item() ** 0.5, first.item() ** 0.5, steps + 1) ** 2
        if skip_type == "logSNR":
            ends = self.log_snr(start).item(), self.log_snr(first).item()
            return self.time_at(torch.linspace(*ends, steps + 1))
        raise ValueError(f"uni_pc_skip_type {skip_type!r} is unknown; it is one of {', '.join(SKIP_TYPES)}")
