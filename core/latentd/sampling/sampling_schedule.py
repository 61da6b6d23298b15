"""From a sampler and the numbers of a request to a sampling schedule: levels or timesteps, and the start latent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentd.sampling.brownian import SdeNoise
from latentd.sampling.catalogue import SamplerCatalogue
from latentd.sampling.samplers.run import Denoiser, SamplerRun, StepInfo
from latentd.sampling.schedule import NoiseSchedule
from latentd.sampling.schedulers import SigmaOverrides, build_sigmas
from latentd.sampling.spec import SamplerSpec, SchedulerSpec, load_function
from latentd.sampling.steps import setup_img2img_steps
from latentd.sampling.timesteps import build_timesteps
from latentd.types import OptionValues


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What the request and the options say about sampling.

    :param steps: the request's steps.
    :param scheduler: asked for by the request or the option ``k_sched_type``; ``None`` is the sampler's own.
    :param eta: ``None`` is the sampler's default.
    :param s_tmax: 0 means no upper bound.
    :param options: the ``uni_pc_*`` options by name.
    """

    steps: int
    scheduler: SchedulerSpec | None = None
    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    s_noise: float = 1.0
    always_discard_next_to_last_sigma: bool = False
    overrides: SigmaOverrides = field(default_factory=SigmaOverrides)
    use_old_karras: bool = False
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    is_sdxl: bool = False
    sgm_noise_multiplier: bool = False
    options: OptionValues = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Img2ImgParams:
    """How far back into noise a picture is sent.

    :param denoising_strength: 0 to 1.
    :param fix_steps: option ``img2img_fix_steps``.
    :param requested_steps: exact steps of a hires pass.
    :param noise_multiplier: option ``initial_noise_multiplier``.
    :param extra_noise: option ``img2img_extra_noise``.
    """

    denoising_strength: float
    fix_steps: bool = False
    requested_steps: int | None = None
    noise_multiplier: float = 1.0
    extra_noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSchedule:
    """The noise levels or timesteps of one pass, with the sampler that runs them.

    :param schedule: the schedule through which the denoiser must address the model (for LCM not the model's own).
    :param full_sigmas: the whole schedule (kind "sigma"), from which Brownian paths take their range.
    :param sigmas: the levels that are run.
    :param timesteps: the timesteps that are run (kind "timestep").
    :param sampling_steps: the number of steps that progress shows.
    :param start_timestep: timestep to which an initial latent is noised (kind "timestep", img2img).
    """

    spec: SamplerSpec
    params: SamplingParams
    schedule: NoiseSchedule
    sampling_steps: int
    full_sigmas: Tensor | None = None
    sigmas: Tensor | None = None
    timesteps: Tensor | None = None
    start_timestep: int | None = None
    img2img: Img2ImgParams | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no step to make, as with strength 0 and exact steps."""
        run = self.timesteps if self.spec.kind == "timestep" else self.sigmas
        return run is None or len(run) < (1 if self.spec.kind == "timestep" else 2)

    @property
    def brownian_range(self) -> tuple[float, float]:
        """Lowest positive and highest level of the full schedule."""
        sigmas = self.full_sigmas
        if sigmas is None or not bool((sigmas > 0).any()):
            return self.schedule.sigma_min, self.schedule.sigma_max
        return float(sigmas[sigmas > 0].min()), float(sigmas.max())

    def start(self, noise: Tensor) -> Tensor:
        """The latent from which txt2img starts, ``(B, C, h, w)``: the noise at the highest level."""
        if self.spec.kind == "timestep" or self.sigmas is None:
            return noise
        if self.params.sgm_noise_multiplier:
            return noise * torch.sqrt(1.0 + self.sigmas[0] ** 2.0)
        return noise * self.sigmas[0]

    def start_from(self, init: Tensor, noise: Tensor) -> Tensor:
        """The latent from which img2img starts: ``init`` with noise of the first level run.

        :param init: the picture's latent, ``(B, C, h, w)``.
        :param noise: the first draw of the stream, same shape.
        """
        extra = self.img2img.extra_noise if self.img2img else 0.0
        if self.img2img:
            noise = noise * self.img2img.noise_multiplier
        if self.spec.kind == "sigma":
            level = self.sigmas[0] if self.sigmas is not None else 0.0
            x = init + noise * level
            return x + noise * extra if extra > 0 else x
        if self.start_timestep is None:
            return init
        alpha = self.schedule.alphas_cumprod[self.start_timestep]
        x = init * torch.sqrt(alpha) + noise * torch.sqrt(1 - alpha)
        return x + noise * extra * torch.sqrt(alpha) if extra > 0 else x

    def sampler_run(
        self,
        *,
        noise: Callable[[], Tensor],
        brownian: SdeNoise | None = None,
        on_step: Callable[[StepInfo], None] | None = None,
    ) -> SamplerRun:
        """The run that the sampler is called with; numbers that it does not take stay at their defaults.

        :param noise: next draw of every picture's stream.
        :param brownian: needed by samplers with ``spec.brownian``.
        :param on_step: told of each step.
        """
        spec, params = self.spec, self.params
        # Numbers of the run, each of a type of its own.
        values: dict[str, Any] = {"sigmas": self.sigmas, "timesteps": self.timesteps, "brownian": brownian}
        if spec.uses_eta:
            values["eta"] = spec.default_eta if params.eta is None else params.eta
        if spec.uses_churn:
            values |= {"s_churn": params.s_churn, "s_tmin": params.s_tmin, "s_tmax": params.s_tmax or math.inf}
        if spec.uses_s_noise:
            values["s_noise"] = params.s_noise
        if spec.ignores_schedule:
            values |= self._own_range()
        if on_step is not None:
            values["on_step"] = on_step
        return SamplerRun(
            schedule=self.schedule,
            noise=noise,
            solver_type=spec.solver_type,
            is_img2img=self.img2img is not None,
            options=params.options,
            **values,
        )

    def sample(self, denoiser: Denoiser, x: Tensor, run: SamplerRun) -> Tensor:
        """The sampled latent, ``(B, C, h, w)``; ``x`` itself when there is no step to make."""
        if self.is_empty:
            return x
        return load_function(self.spec.function)(denoiser, x, run)

    def _own_range(self) -> dict[str, float]:
        """Range and step count of samplers that ignore the schedule; in img2img it is that of the levels run."""
        if self.img2img is None or self.sigmas is None or len(self.sigmas) < 2:
            low, high, steps = self.schedule.sigma_min, self.schedule.sigma_max, self.params.steps
        else:
            low, high, steps = float(self.sigmas[-2]), float(self.sigmas[0]), len(self.sigmas) - 1
        return {"sigma_min": low, "sigma_max": high, "steps": steps}


def schedule_sampling(
    spec: SamplerSpec,
    params: SamplingParams,
    schedule: NoiseSchedule,
    registry: SamplerCatalogue,
    img2img: Img2ImgParams | None = None,
) -> SamplingSchedule:
    """The plan of one pass: txt2img, or img2img (hires fix too) when ``img2img`` is given.

    Source: AUTOMATIC1111 1.8, ``sample`` and ``sample_img2img`` of both kinds of samplers.
    """
    if spec.lcm_schedule:
        schedule = schedule.lcm()
    steps, t_enc = params.steps, params.steps
    if img2img is not None:
        steps, t_enc = setup_img2img_steps(
            params.steps, img2img.denoising_strength, img2img.fix_steps, img2img.requested_steps
        )
    sampling_steps = params.steps if img2img is None else t_enc + 1
    scheduled = partial(
        SamplingSchedule, spec=spec, params=params, schedule=schedule, sampling_steps=sampling_steps, img2img=img2img
    )
    if spec.kind == "timestep":
        timesteps, start = _timesteps(params, steps, t_enc, img2img)
        return scheduled(timesteps=timesteps, start_timestep=start)
    sigmas = build_sigmas(
        spec,
        params.scheduler,
        registry.scheduler(spec.scheduler) if spec.scheduler else None,
        steps,
        schedule,
        discard_next_to_last=params.always_discard_next_to_last_sigma,
        overrides=params.overrides,
        use_old_karras=params.use_old_karras,
        beta_alpha=params.beta_alpha,
        beta_beta=params.beta_beta,
        is_sdxl=params.is_sdxl,
    )
    run = sigmas if img2img is None else sigmas[max(steps - t_enc - 1, 0) :]
    return scheduled(full_sigmas=sigmas, sigmas=run)


def _timesteps(
    params: SamplingParams, steps: int, t_enc: int, img2img: Img2ImgParams | None
) -> tuple[Tensor | None, int | None]:
    """The timesteps to run and, for img2img, the one to which the picture is noised; None where there is no step."""
    if steps <= 0:
        return None, None
    timesteps = build_timesteps(steps, params.always_discard_next_to_last_sigma)
    if img2img is None:
        return timesteps, None
    t_enc = min(t_enc, len(timesteps) - 1)
    return timesteps[:t_enc], int(timesteps[t_enc])
