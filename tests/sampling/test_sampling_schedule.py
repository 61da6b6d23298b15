from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from latentd.sampling.catalogue import SamplerCatalogue
from latentd.sampling.sampling_schedule import Img2ImgParams, SamplingParams, SamplingSchedule, schedule_sampling
from latentd.sampling.schedule import LCMSchedule, NoiseSchedule
from latentd.sampling.timesteps import build_timesteps

SCHEDULE = NoiseSchedule.scaled_linear()
CATALOGUE = SamplerCatalogue()
INIT, NOISE = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 0.5)


def plan_of(name: str, steps: int = 20, img2img: Img2ImgParams | None = None, **params: Any) -> SamplingSchedule:
    spec = CATALOGUE.sampler(name)
    assert spec is not None
    return schedule_sampling(spec, SamplingParams(steps=steps, **params), SCHEDULE, CATALOGUE, img2img)


def test_txt2img_starts_from_noise_at_the_highest_level() -> None:
    assert torch.allclose(plan_of("Euler").start(NOISE), NOISE * SCHEDULE.sigma_max)
    sgm = plan_of("Euler", sgm_noise_multiplier=True).start(NOISE)
    assert torch.allclose(sgm, NOISE * math.sqrt(1 + SCHEDULE.sigma_max**2))
    assert torch.equal(plan_of("DDIM").start(NOISE), NOISE)


def test_img2img_runs_the_end_of_the_schedule() -> None:
    plan = plan_of("DPM++ 2M Karras", img2img=Img2ImgParams(denoising_strength=0.5))
    assert plan.sigmas is not None
    assert plan.full_sigmas is not None
    assert torch.equal(plan.sigmas, plan.full_sigmas[9:])
    assert plan.sampling_steps == 11
    assert torch.equal(plan.start_from(INIT, NOISE), INIT + NOISE * plan.full_sigmas[9])
    # Brownian paths span the full schedule
    assert plan.brownian_range == (float(plan.full_sigmas[-2]), float(plan.full_sigmas[0]))


def test_img2img_of_timestep_samplers_noises_to_the_timestep_after_the_last_run() -> None:
    plan = plan_of("DDIM", img2img=Img2ImgParams(denoising_strength=0.5, extra_noise=0.1))
    assert plan.timesteps is not None
    assert plan.timesteps.tolist() == [1 + 50 * k for k in range(10)]
    alpha = SCHEDULE.alphas_cumprod[501].item()
    expected = INIT * math.sqrt(alpha) + NOISE * (math.sqrt(1 - alpha) + 0.1 * math.sqrt(alpha))
    assert torch.allclose(plan.start_from(INIT, NOISE), expected)


def test_noise_multiplier_and_extra_noise() -> None:
    plan = plan_of("Euler", img2img=Img2ImgParams(denoising_strength=0.5, noise_multiplier=2.0, extra_noise=0.25))
    assert plan.sigmas is not None
    assert torch.allclose(plan.start_from(INIT, NOISE), INIT + 2 * NOISE * (plan.sigmas[0] + 0.25))


def test_hires_makes_exactly_the_steps_asked_for() -> None:
    plan = plan_of("Euler", img2img=Img2ImgParams(denoising_strength=0.4, requested_steps=8))
    assert plan.sigmas is not None
    assert plan.full_sigmas is not None
    assert len(plan.full_sigmas) == 21
    assert len(plan.sigmas) == 9


@pytest.mark.parametrize("name", ["Euler", "DDIM", "UniPC", "DPM fast", "DPM adaptive", "DPM++ 2M SDE"])
def test_strength_zero_with_exact_steps_leaves_the_picture(name: str) -> None:
    plan = plan_of(name, img2img=Img2ImgParams(denoising_strength=0.0, fix_steps=True))
    assert plan.is_empty
    start = plan.start_from(INIT, NOISE)
    assert torch.equal(start, INIT)

    def never(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        raise AssertionError("no step is to be made")

    assert torch.equal(plan.sample(never, start, plan.sampler_run(noise=lambda: NOISE)), INIT)


def test_strength_zero_still_makes_one_step_otherwise() -> None:
    plan = plan_of("Euler", img2img=Img2ImgParams(denoising_strength=0.0))
    assert plan.sigmas is not None
    assert plan.sigmas.tolist() == pytest.approx([SCHEDULE.sigma_min, 0.0])


def test_samplers_that_ignore_the_schedule_get_a_range() -> None:
    run = plan_of("DPM fast").sampler_run(noise=lambda: NOISE)
    assert (run.sigma_min, run.sigma_max, run.steps) == (SCHEDULE.sigma_min, SCHEDULE.sigma_max, 20)
    plan = plan_of("DPM fast", img2img=Img2ImgParams(denoising_strength=0.5))
    run = plan.sampler_run(noise=lambda: NOISE)
    assert plan.sigmas is not None
    assert (run.sigma_min, run.sigma_max, run.steps) == (float(plan.sigmas[-2]), float(plan.sigmas[0]), 11)


def test_lcm_addresses_the_model_through_its_own_schedule() -> None:
    plan = plan_of("LCM", 4)
    assert isinstance(plan.schedule, LCMSchedule)
    assert plan.sigmas is not None
    assert plan.sigmas[0] == pytest.approx(SCHEDULE.sigma_max)


@pytest.mark.parametrize(("steps", "count", "highest"), [(10, 10, 901), (30, 31, 991), (1, 1, 1), (1000, 1000, 999)])
def test_timesteps(steps: int, count: int, highest: int) -> None:
    timesteps = build_timesteps(steps)
    assert (len(timesteps), int(timesteps[0]), int(timesteps[-1])) == (count, 1, highest)


def test_discarding_plans_one_timestep_more() -> None:
    assert len(build_timesteps(9, discard_next_to_last=True)) == 10


def test_more_steps_than_timesteps_are_clamped() -> None:
    plan = plan_of("DDIM", 100, img2img=Img2ImgParams(denoising_strength=0.01, fix_steps=True))
    assert plan.timesteps is not None
    assert len(plan.timesteps) == 99
    assert len(build_timesteps(5000)) == 1000
