"""What a sampler gets: the denoiser that it calls, and everything else about one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from latentd.sampling.brownian import SdeNoise
from latentd.sampling.schedule import NoiseSchedule
from latentd.types import OptionValues


class Denoiser(Protocol):
    """The guided model, as samplers see it.

    For samplers with ``needs_uncond_eps`` it also has the attribute ``last_uncond_eps``, ``(B, C, h, w)``: the
    unconditional prediction of the last call.
    """

    def __call__(self, x: Tensor, level: Tensor, /) -> Tensor:
        """The prediction for ``x`` (``(B, C, h, w)``).

        :param level: ``(B,)``. For kind "sigma" these are noise levels, and the clean latent is returned. For kind
            "timestep" these are timesteps (float32; fractional for UniPC), and the noise is returned.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """What an observer gets about a step, where k-diffusion calls back: mostly after the step's first model call."""

    i: int
    sigma: Tensor | float
    sigma_hat: Tensor | float
    x: Tensor
    denoised: Tensor


def _ignore(info: StepInfo) -> None:
    """Default observer of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerRun:
    """One run of a sampler over one batch.

    :param schedule: the model's noise schedule.
    :param noise: returns the next draw of every picture's stream, ``(B, C, h, w)``.
    :param sigmas: descending noise levels ending in zero (kind "sigma").
    :param timesteps: ascending integer timesteps (kind "timestep").
    :param brownian: noise for SDE samplers.
    :param sigma_min: lowest level for samplers that make their own steps.
    :param sigma_max: highest level for samplers that make their own steps.
    :param steps: number of model calls for DPM fast.
    :param is_img2img: whether sampling starts from a picture.
    :param options: the ``uni_pc_*`` options by name.
    :param on_step: called at each step; may raise an exception to end sampling.
    """

    schedule: NoiseSchedule
    noise: Callable[[], Tensor]
    sigmas: Tensor | None = None
    timesteps: Tensor | None = None
    brownian: SdeNoise | None = None
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    steps: int = 0
    is_img2img: bool = False
    eta: float = 1.0
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    solver_type: str | None = None
    options: OptionValues = field(default_factory=dict)
    on_step: Callable[[StepInfo], None] = _ignore

    def levels(self) -> Tensor:
        """The noise levels.

        :raises ValueError: when the run has none.
        """
        if self.sigmas is None:
            raise ValueError("this sampler needs noise levels (run.sigmas)")
        return self.sigmas

    def times(self) -> Tensor:
        """The timesteps.

        :raises ValueError: when the run has none.
        """
        if self.timesteps is None:
            raise ValueError("this sampler needs timesteps (run.timesteps)")
        return self.timesteps

    def sde_noise(self, sigma_from: Tensor, sigma_to: Tensor) -> Tensor:
        """Brownian noise for a step between two levels.

        :raises ValueError: when the run has no Brownian path.
        """
        if self.brownian is None:
            raise ValueError("this sampler needs Brownian noise (run.brownian)")
        return self.brownian(sigma_from, sigma_to)

    def report(self, i: int, sigma: Tensor | float, sigma_hat: Tensor | float, x: Tensor, denoised: Tensor) -> None:
        """Call the observer of steps."""
        self.on_step(StepInfo(i=i, sigma=sigma, sigma_hat=sigma_hat, x=x, denoised=denoised))
