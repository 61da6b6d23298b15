"""The noise levels that a diffusion model was trained on, and the map between them and timesteps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LAST_ALPHA_ZERO_SNR = 4.8973451890853435e-08
_LCM_STEPS = 50
_LCM_SIGMA_DATA = 0.5
_LCM_TIMESTEP_SCALING = 10.0


def _append_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


@dataclass(frozen=True, slots=True, eq=False)
class NoiseSchedule:
    """A model's noise schedule, as the cumulative products of its alphas, and the levels that follow from them.

    :param alphas_cumprod: ``(T,)``, descending; float32, or float16 after :meth:`downcast`.
    """

    alphas_cumprod: Tensor

    @classmethod
    def from_betas(cls, betas: Tensor) -> NoiseSchedule:
        """The schedule of these betas (``(T,)``, taken as float64)."""
        return cls(torch.cumprod(1.0 - betas.double(), dim=0).float())

    @classmethod
    def scaled_linear(
        cls, linear_start: float = 0.00085, linear_end: float = 0.012, timesteps: int = 1000
    ) -> NoiseSchedule:
        """Stable Diffusion's schedule: the square roots of the betas are evenly spaced."""
        roots = torch.linspace(math.sqrt(linear_start), math.sqrt(linear_end), timesteps, dtype=torch.float64)
        return cls.from_betas(roots**2)

    def downcast(self) -> NoiseSchedule:
        """The schedule rounded to float16 (option ``use_downcasted_alpha_bar``)."""
        return NoiseSchedule(self.alphas_cumprod.half())

    def zero_terminal_snr(self) -> NoiseSchedule:
        """The schedule stretched so that its last level is almost pure noise.

        Source: Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2023), with AUTOMATIC1111's
        value for the last entry, which may not be zero.
        """
        roots = self.alphas_cumprod.sqrt()
        first, last = roots[0].clone(), roots[-1].clone()
        alphas = ((roots - last) * (first / (first - last))) ** 2
        alphas[-1] = _LAST_ALPHA_ZERO_SNR
        return NoiseSchedule(alphas)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The schedule with its tensor on ``device``."""
        return type(self)(self.alphas_cumprod.to(device))

    def lcm(self) -> LCMSchedule:
        """The schedule of 50 levels by which latent consistency models are called."""
        skip = len(self.alphas_cumprod) // _LCM_STEPS
        return LCMSchedule(self.alphas_cumprod[skip - 1 :: skip].float())

    @property
    def sigmas(self) -> Tensor:
        """Noise levels, ascending, ``(T,)``, all finite.

        In float16 the ratio of the noisiest overflows where the schedule is both downcast and stretched to zero SNR;
        those levels, which float16 can hold, are taken from float32.
        """
        alphas = self.alphas_cumprod
        levels = ((1 - alphas) / alphas) ** 0.5
        exact = ((1 - alphas.float()) / alphas.float()) ** 0.5
        return torch.where(levels.isinf(), exact.to(levels.dtype), levels)

    @property
    def log_sigmas(self) -> Tensor:
        """Natural logarithms of the noise levels, ``(T,)``."""
        return self.sigmas.log()

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return float(self.sigmas[-1])

    def sigma_to_t(self, sigma: Tensor, quantize: bool = False) -> Tensor:
        """Timesteps for noise levels: interpolated in log sigma, or the nearest index.

        :param sigma: any shape; levels outside the range count as its ends.
        """
        log_sigmas = self.log_sigmas.to(sigma.device)
        distances = sigma.log().reshape(-1) - log_sigmas[:, None]
        if quantize:
            return distances.abs().argmin(dim=0).view(sigma.shape)
        low_index = distances.ge(0).cumsum(dim=0).argmax(dim=0).clamp(max=len(log_sigmas) - 2)
        low, high = log_sigmas[low_index], log_sigmas[low_index + 1]
        weight = ((low - sigma.log().reshape(-1)) / (low - high)).clamp(0, 1)
        return ((1 - weight) * low_index + weight * (low_index + 1)).view(sigma.shape)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """Noise levels for timesteps, fractions allowed, interpolated in log sigma."""
        t = t.float()
        low, high, weight = t.floor().long(), t.ceil().long(), t.frac()
        log_sigmas = self.log_sigmas.to(t.device)
        return ((1 - weight) * log_sigmas[low] + weight * log_sigmas[high]).exp()

    def uniform_sigmas(self, count: int) -> Tensor:
        """``count`` levels at evenly spaced timesteps, descending, and a zero."""
        last = len(self.alphas_cumprod) - 1
        return _append_zero(self.t_to_sigma(torch.linspace(last, 0, count)))

    def scale_output(self, sigma: Tensor, denoised: Tensor, x: Tensor) -> Tensor:
        """The denoiser's result for a prediction of the clean latent: here, the prediction unchanged.

        :param sigma: ``(B,)``.
        :param denoised: the prediction, ``(B, C, h, w)``.
        :param x: the noisy latent, same shape.
        """
        return denoised


@dataclass(frozen=True, slots=True, eq=False)
class LCMSchedule(NoiseSchedule):
    """Every 20th level of a model's schedule; timesteps are those of the model (19, 39, ... 999).

    Source: AUTOMATIC1111's LCM sampler; Luo et al., "Latent consistency models" (2023), for the output's scaling.
    """

    @property
    def _skip(self) -> int:
        return 1000 // _LCM_STEPS

    def sigma_to_t(self, sigma: Tensor, quantize: bool = False) -> Tensor:
        """The model's timestep nearest in log sigma (always an integer)."""
        distances = sigma.log().reshape(-1) - self.log_sigmas.to(sigma.device)[:, None]
        return distances.abs().argmin(dim=0).view(sigma.shape) * self._skip + (self._skip - 1)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """Noise levels for the model's timesteps."""
        index = ((t - (self._skip - 1)) / self._skip).float().clamp(min=0, max=len(self.alphas_cumprod) - 1)
        return NoiseSchedule.t_to_sigma(self, index)

    def uniform_sigmas(self, count: int) -> Tensor:
        """``count`` levels at timesteps evenly spaced from 999 to 19, and a zero."""
        last = len(self.alphas_cumprod) * self._skip - 1
        return _append_zero(self.t_to_sigma(torch.linspace(last, self._skip - 1, count)))

    def scale_output(self, sigma: Tensor, denoised: Tensor, x: Tensor) -> Tensor:
        """The consistency function: a mixture of prediction and input that depends on the timestep."""
        scaled = (self.sigma_to_t(sigma) * _LCM_TIMESTEP_SCALING).view(-1, *[1] * (x.ndim - 1))
        variance = _LCM_SIGMA_DATA**2
        c_skip = variance / (scaled**2 + variance)
        c_out = scaled / (scaled**2 + variance) ** 0.5
        return c_out * denoised + c_skip * x
