from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentd.sampling.brownian import BrownianNoise
from latentd.sampling.catalogue import SAMPLERS_1_8, SamplerCatalogue
from latentd.sampling.noise import NoiseStream
from latentd.sampling.samplers.lms import multistep_coefficient
from latentd.sampling.samplers.restart import restart_plan
from latentd.sampling.samplers.run import Denoiser, SamplerRun, StepInfo
from latentd.sampling.sampling_schedule import SamplingParams, SamplingSchedule, schedule_sampling
from latentd.sampling.schedule import NoiseSchedule
from latentd.sampling.schedulers import karras_sigmas
from latentd.sampling.spec import load_function

SPREAD = 0.7
SCHEDULE = NoiseSchedule.scaled_linear()
CATALOGUE = SamplerCatalogue()
SHAPE = (4, 8, 8)


class Gaussian:
    """The exact model of latents that are normal with standard deviation ``SPREAD``; keeps the levels it was asked for.

    The probability flow then scales a latent by the ratio of the standard deviations.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.levels: list[float] = []

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        assert level.shape == (x.shape[0],)
        self.levels.append(float(level[0]))
        if self.kind == "sigma":
            return x * SPREAD**2 / (SPREAD**2 + level.view(-1, 1, 1, 1) ** 2)
        alpha = 1 / (1 + SCHEDULE.t_to_sigma(level).view(-1, 1, 1, 1) ** 2)
        return x * (1 - alpha).sqrt() / (alpha * SPREAD**2 + 1 - alpha)


class Bent:
    """A model that treats every picture alike, and no pixel linearly."""

    last_uncond_eps: Tensor

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        self.last_uncond_eps = x * 0.9
        return torch.tanh(x / (1 + level.view(-1, 1, 1, 1) ** 2).sqrt()) * 0.9 + 0.05


def plan_of(name: str, steps: int = 10, **params: Any) -> SamplingSchedule:
    spec = CATALOGUE.sampler(name)
    assert spec is not None
    return schedule_sampling(spec, SamplingParams(steps=steps, **params), SCHEDULE, CATALOGUE)


def sample(
    plan: SamplingSchedule, denoiser: Denoiser, seeds: list[int], shape: tuple[int, int, int] = SHAPE, **more: Any
) -> Tensor:
    stream = NoiseStream(shape, seeds, "NV")
    brownian = BrownianNoise(shape, seeds, *plan.brownian_range, "NV") if plan.spec.brownian else None
    run = plan.sampler_run(noise=stream.next, brownian=brownian, **more)
    return plan.sample(denoiser, plan.start(stream.first()), run)


def deterministic(name: str, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Run a sampler without added noise; return its result and the exact one."""
    spec = CATALOGUE.sampler(name)
    assert spec is not None
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    zero = torch.zeros_like(x)
    run = SamplerRun(schedule=SCHEDULE, noise=lambda: zero, brownian=lambda a, b: zero, sigmas=sigmas.double(), eta=0.0)
    ratio = (SPREAD**2 + sigmas[-1].item() ** 2) / (SPREAD**2 + sigmas[0].item() ** 2)
    return load_function(spec.function)(Gaussian("sigma"), x, run), x * math.sqrt(ratio)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("Euler", 1),
        ("Euler a", 1),
        ("Heun", 2),
        ("DPM2", 2),
        ("DPM2 a", 2),
        ("LMS", 2),
        ("DPM++ 2M", 2),
        ("DPM++ 2S a", 2),
        ("DPM++ SDE", 2),
        ("DPM++ 2M SDE", 2),
        ("DPM++ 2M SDE Heun", 2),
        ("DPM++ 3M SDE", 2),
        ("Restart", 2),
    ],
)
def test_order_of_convergence(name: str, order: int) -> None:
    errors = []
    for steps in (16, 32) if name == "Restart" else (40, 80):
        sigmas = torch.linspace(math.log(8.0), math.log(0.5), steps + 1).exp()
        if name == "Restart":
            sigmas = sigmas[:19]  # below 20 steps there are no restarts
        result, exact = deterministic(name, sigmas)
        errors.append(float((result - exact).abs().max()))
    if name == "Restart":
        assert errors[0] < 0.02
    else:
        rounding = 2e-6
        assert errors[1] < max(errors[0] / 2 ** (order - 0.3), rounding)


@pytest.mark.parametrize("spec", SAMPLERS_1_8, ids=lambda spec: spec.name)
def test_pictures_of_a_batch_are_those_made_alone(spec: Any) -> None:
    plan = plan_of(spec.name, 7)
    batch = sample(plan, Bent(), [5, 6, 7])
    for index, seed in enumerate([5, 6, 7]):
        alone = sample(plan, Bent(), [seed])
        if spec.couples_batch:  # the common step length shifts the error only
            assert torch.nn.functional.mse_loss(batch[index], alone[0]) < 4
        else:
            assert torch.allclose(batch[index], alone[0], atol=2e-5)


@pytest.mark.parametrize(
    "name", [s.name for s in SAMPLERS_1_8 if s.name != "LCM" and (s.scheduler == "karras" or not s.brownian)]
)
def test_samples_have_the_spread_of_the_data(name: str) -> None:
    plan = plan_of(name, 30)
    result = sample(plan, Gaussian(plan.spec.kind), [1], (4, 24, 24))
    assert abs(result.std().item() / SPREAD - 1) < 0.15
    assert abs(result.mean().item()) < 0.06


@pytest.mark.parametrize(
    ("name", "steps", "calls", "reports"),
    [
        ("Euler", 10, 10, 10),
        ("Heun", 10, 19, 10),
        ("DPM2", 10, 19, 10),
        ("DPM++ SDE", 10, 19, 10),
        ("DPM++ 2S a", 10, 19, 10),
        ("DPM++ 3M SDE", 10, 10, 10),
        ("Restart", 10, 19, 10),
        ("Restart", 25, 49, 25),
        ("DPM fast", 10, 10, 4),
        ("DPM fast", 9, 9, 4),
        ("LCM", 4, 4, 4),
        ("DDIM", 10, 9, 9),
        ("DDIM", 7, 7, 7),
        ("DDIM", 1, 0, 0),
        ("PLMS", 10, 10, 9),
        ("PLMS", 13, 14, 13),
        ("UniPC", 10, 10, 10),
        ("UniPC", 1, 1, 1),
    ],
)
def test_model_calls_and_reports(name: str, steps: int, calls: int, reports: int) -> None:
    plan = plan_of(name, steps)
    denoiser, seen = Gaussian(plan.spec.kind), list[StepInfo]()
    sample(plan, denoiser, [3], on_step=seen.append)
    assert len(denoiser.levels) == calls
    assert [info.i for info in seen] == list(range(reports))
    assert all(info.denoised.shape == (1, *SHAPE) for info in seen)


def test_reports_come_after_the_first_call_of_a_step() -> None:
    denoiser, calls_at = Gaussian("sigma"), list[int]()
    sample(plan_of("Heun", 3), denoiser, [3], on_step=lambda info: calls_at.append(len(denoiser.levels)))
    assert calls_at == [1, 3, 5]


def test_an_observer_can_end_sampling() -> None:
    class Stop(Exception):
        pass

    def stop(info: StepInfo) -> None:
        if info.i == 2:
            raise Stop

    denoiser = Gaussian("sigma")
    with pytest.raises(Stop):
        sample(plan_of("Euler", 10), denoiser, [3], on_step=stop)
    assert len(denoiser.levels) == 3


def test_ddim_and_plms_skip_the_lowest_timestep_and_unipc_ends_above_it() -> None:
    for name in ("DDIM", "PLMS"):
        denoiser = Gaussian("timestep")
        sample(plan_of(name, 10), denoiser, [3])
        assert (denoiser.levels[0], denoiser.levels[-1]) == (901, 101)
    denoiser = Gaussian("timestep")
    sample(plan_of("UniPC", 10), denoiser, [3])
    assert denoiser.levels == pytest.approx([999 - 99.9 * k for k in range(10)], abs=0.01)


@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary_coeff"])
@pytest.mark.parametrize("skip", ["time_uniform", "time_quadratic", "logSNR"])
def test_unipc_is_close_to_the_exact_flow(variant: str, skip: str) -> None:
    plan = plan_of("UniPC", 50, options={"uni_pc_variant": variant, "uni_pc_skip_type": skip})
    start = NoiseStream(SHAPE, [4], "NV").first()
    result = sample(plan, Gaussian("timestep"), [4])
    first, last = SCHEDULE.alphas_cumprod[[999, 0]].tolist()
    exact = start * math.sqrt((last * SPREAD**2 + 1 - last) / (first * SPREAD**2 + 1 - first))
    assert torch.allclose(result, exact, atol=0.05)


def test_unipc_refuses_unknown_options() -> None:
    for key in ("uni_pc_variant", "uni_pc_skip_type"):
        with pytest.raises(ValueError, match=f"{key} 'wrong' is unknown"):
            sample(plan_of("UniPC", 5, options={key: "wrong"}), Gaussian("timestep"), [1])


def test_unipc_higher_orders_are_more_exact() -> None:
    errors = []
    for order in (1, 2, 3):
        plan = plan_of("UniPC", 20, options={"uni_pc_order": order})
        start = NoiseStream(SHAPE, [4], "NV").first()
        first, last = SCHEDULE.alphas_cumprod[[999, 0]].tolist()
        exact = start * math.sqrt((last * SPREAD**2 + 1 - last) / (first * SPREAD**2 + 1 - first))
        errors.append(float((sample(plan, Gaussian("timestep"), [4]) - exact).abs().max()))
    assert max(errors[1:]) < 0.7 * errors[0]


def test_eta_zero_makes_ancestral_samplers_deterministic() -> None:
    assert torch.allclose(sample(plan_of("Euler a", 8, eta=0.0), Bent(), [1]), sample(plan_of("Euler", 8), Bent(), [1]))


def test_churn_acts_only_between_its_bounds() -> None:
    plain = sample(plan_of("Euler", 8), Bent(), [1])
    churned = sample(plan_of("Euler", 8, s_churn=10.0), Bent(), [1])
    outside = sample(plan_of("Euler", 8, s_churn=10.0, s_tmin=50.0), Bent(), [1])
    assert not torch.allclose(plain, churned, atol=1e-3)
    assert torch.equal(plain, outside)


def test_noise_is_drawn_every_step_even_when_none_is_added() -> None:
    for name, draws in [("Euler", 8), ("DDIM", 7), ("DDIM", 7)]:
        count = 0

        def counted() -> Tensor:
            nonlocal count
            count += 1
            return torch.zeros(1, *SHAPE)

        plan = plan_of(name, 8)
        plan.sample(Gaussian(plan.spec.kind), torch.zeros(1, *SHAPE), plan.sampler_run(noise=counted))
        assert count == draws


def test_samplers_take_only_the_numbers_they_know() -> None:
    numbers = {"eta": 0.5, "s_churn": 3.0, "s_noise": 1.1, "s_tmin": 0.2, "s_tmax": 5.0}
    euler_a = plan_of("Euler a", **numbers).sampler_run(noise=lambda: torch.zeros(()))
    assert (euler_a.eta, euler_a.s_churn, euler_a.s_noise) == (0.5, 0.0, 1.0)
    euler = plan_of("Euler", **numbers).sampler_run(noise=lambda: torch.zeros(()))
    assert (euler.s_churn, euler.s_noise, euler.s_tmin, euler.s_tmax) == (3.0, 1.1, 0.2, 5.0)
    assert plan_of("Euler").sampler_run(noise=lambda: torch.zeros(())).s_tmax == math.inf


def test_lms_weights_integrate_the_lagrange_polynomials() -> None:
    levels = [9.0, 7.0, 4.0, 3.0, 1.0]
    weights = [multistep_coefficient(4, levels, 3, j) for j in range(4)]
    for power in range(4):  # exact for cubics
        integral = (levels[4] ** (power + 1) - levels[3] ** (power + 1)) / (power + 1)
        assert sum(w * levels[3 - j] ** power for j, w in enumerate(weights)) == pytest.approx(integral)


def test_restart_plan_goes_back_up_once_at_25_and_twice_at_40_steps() -> None:
    def climbs(steps: int) -> tuple[int, int]:
        plan = restart_plan(karras_sigmas(steps, 0.03, 14.6))
        ups = sum(bool(after[0] > before[1]) for before, after in itertools.pairwise(plan))
        return len(plan), ups

    assert climbs(19) == (19, 0)
    assert climbs(25) == (25, 1)
    assert climbs(40) == (40, 2)


def test_ddim_cfgpp_steps_along_the_unconditional_noise() -> None:
    plan = plan_of("DDIM CFG++", 6)
    assert plan.spec.needs_uncond_eps
    assert plan.spec.cfg_scale_factor == 1 / 12.5

    class Same(Gaussian):
        def __call__(self, x: Tensor, level: Tensor) -> Tensor:
            self.last_uncond_eps = super().__call__(x, level)
            return self.last_uncond_eps

    plain = sample(plan_of("DDIM", 6), Gaussian("timestep"), [1])
    assert torch.equal(sample(plan, Same("timestep"), [1]), plain)
    assert not torch.allclose(sample(plan, Bent(), [1]), sample(plan_of("DDIM", 6), Bent(), [1]))


def test_missing_inputs_are_named() -> None:
    bare = SamplerRun(schedule=SCHEDULE, noise=lambda: torch.zeros(1, *SHAPE))
    x = torch.zeros(1, *SHAPE)
    for name, message in [("Euler", "run.sigmas"), ("DDIM", "run.timesteps"), ("DPM fast", "must be positive")]:
        spec = CATALOGUE.sampler(name)
        assert spec is not None
        with pytest.raises(ValueError, match=message):
            load_function(spec.function)(Bent(), x, bare)
    spec = CATALOGUE.sampler("DPM++ 2M SDE")
    assert spec is not None
    with pytest.raises(ValueError, match=r"run\.brownian"):
        load_function(spec.function)(Bent(), x, replace(bare, sigmas=torch.tensor([3.0, 1.0, 0.0])))
