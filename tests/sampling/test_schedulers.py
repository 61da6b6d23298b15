from __future__ import annotations

import itertools
import math

import pytest
import torch

from latentd.sampling.beta_quantile import beta_cdf, beta_quantile
from latentd.sampling.catalogue import SCHEDULERS, SamplerCatalogue
from latentd.sampling.schedule import NoiseSchedule
from latentd.sampling.schedulers import SigmaOverrides, SigmaRequest, build_sigmas
from latentd.sampling.spec import SchedulerSpec, load_function

CATALOGUE = SamplerCatalogue()
SCHEDULE = NoiseSchedule.scaled_linear()
LOW, HIGH = SCHEDULE.sigma_min, SCHEDULE.sigma_max


def scheduler(name: str) -> SchedulerSpec:
    found = CATALOGUE.scheduler(name)
    assert found is not None
    return found


def levels(name: str, steps: int, **more: float) -> list[float]:
    function = scheduler(name).function
    assert function is not None
    request = SigmaRequest(steps=steps, schedule=SCHEDULE, sigma_min=LOW, sigma_max=HIGH, **more)  # type: ignore[arg-type]
    return [float(x) for x in load_function(function)(request)]


def build(sampler: str, asked: str | None = None, steps: int = 10, **more: object) -> torch.Tensor:
    spec = CATALOGUE.sampler(sampler)
    assert spec is not None
    own = scheduler(spec.scheduler) if spec.scheduler else None
    return build_sigmas(spec, scheduler(asked) if asked else None, own, steps, SCHEDULE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [s for s in SCHEDULERS if s.function], ids=lambda s: s.name)
@pytest.mark.parametrize("steps", [2, 10, 11, 33])
def test_levels_descend_from_the_highest(spec: SchedulerSpec, steps: int) -> None:
    sigmas = levels(spec.name, steps)
    assert all(a > b for a, b in itertools.pairwise(sigmas))
    if spec.name != "ddim":  # its number of levels and its highest follow from a stride
        assert len(sigmas) == steps + 1
        assert sigmas[0] == pytest.approx(HIGH, rel=1e-4)
    assert sigmas[-1] == (pytest.approx(LOW, rel=1e-3) if spec.name == "kl_optimal" else 0)


def test_karras_is_even_in_the_seventh_root() -> None:
    roots = [sigma ** (1 / 7) for sigma in levels("karras", 6)[:-1]]
    assert [a - b for a, b in itertools.pairwise(roots)] == pytest.approx(
        [(HIGH ** (1 / 7) - LOW ** (1 / 7)) / 5] * 5, rel=1e-4
    )
    assert levels("karras", 6, rho=3.0)[2] ** (1 / 3) == pytest.approx(
        HIGH ** (1 / 3) + 0.4 * (LOW ** (1 / 3) - HIGH ** (1 / 3)), rel=1e-5
    )


def test_exponential_and_polyexponential_with_rho_1_agree() -> None:
    assert levels("exponential", 9) == pytest.approx(levels("polyexponential", 9), rel=1e-5)
    assert levels("polyexponential", 3, rho=2.0)[1] == pytest.approx(
        math.exp(math.log(LOW) + 0.25 * math.log(HIGH / LOW)), rel=1e-5
    )


def test_sgm_uniform_leaves_out_the_lowest_level() -> None:
    assert levels("sgm_uniform", 4)[:-1] == pytest.approx(levels("normal", 5)[:4], rel=1e-5)
    assert levels("normal", 5) == pytest.approx(levels("uniform", 5), rel=1e-4)


def test_strided_schedules() -> None:
    sigmas = SCHEDULE.sigmas
    assert levels("simple", 3)[:-1] == [float(sigmas[i]) for i in (999, 666, 333)]
    assert levels("ddim", 4)[:-1] == [float(sigmas[i]) for i in (751, 501, 251, 1)]


def test_align_your_steps_is_its_table_at_eleven() -> None:
    assert levels("align_your_steps", 11)[1] == pytest.approx(6.475)
    assert levels("align_your_steps", 11, is_sdxl=True)[1] == pytest.approx(6.315)
    assert levels("align_your_steps", 21)[1] == pytest.approx(math.sqrt(14.615 * 6.475), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "sdxl", "expected"),
    [
        ("align_your_steps_11", False, [14.615, 3.861, 1.886, 0.963, 0.399, 0.029]),
        ("align_your_steps_11", True, [14.615, 3.771, 1.342, 0.555, 0.234, 0.029]),
        ("align_your_steps_GITS", False, [14.615, 2.507, 0.702, 0.240, 0.104, 0.029]),
        ("align_your_steps_GITS", True, [14.615, 2.567, 0.987, 0.418, 0.179, 0.029]),
    ],
)
def test_tables_of_eleven_at_every_second_of_their_levels(name: str, sdxl: bool, expected: list[float]) -> None:
    assert levels(name, 6, is_sdxl=sdxl) == pytest.approx([*expected, 0.0], rel=1e-5)


def test_the_table_of_32() -> None:
    by_steps = levels("align_your_steps_32", 32), levels("align_your_steps_32", 32, is_sdxl=True)
    assert [by_steps[0][i] for i in (0, 1, 15, 31, 32)] == pytest.approx([14.615, 11.23951352, 1.46540953, 0.015, 0.0])
    assert [by_steps[1][i] for i in (0, 1, 15, 31, 32)] == pytest.approx([14.615, 11.1491618, 0.92579443, 0.015, 0.0])
    assert levels("align_your_steps_32", 2) == pytest.approx([14.615, 0.015, 0.0])


def test_turbo_counts_from_the_last_timestep() -> None:
    sigmas = SCHEDULE.sigmas
    assert levels("turbo", 4)[:-1] == pytest.approx([float(sigmas[i]) for i in (999, 749, 499, 249)], rel=1e-5)
    assert levels("turbo", 3)[:-1] == pytest.approx([float(sigmas[i]) for i in (999, 666, 332)], rel=1e-5)
    assert levels("turbo", 1)[:-1] == pytest.approx([HIGH], rel=1e-5)


def test_beta_uses_the_parameters() -> None:
    middle = levels("beta", 3)[1]
    assert middle == pytest.approx((LOW + HIGH) / 2, rel=1e-5)  # symmetric parameters: the median is a half
    assert levels("beta", 3, beta_alpha=1.0, beta_beta=2.0)[1] == pytest.approx(
        LOW + (1 - math.sqrt(0.5)) * (HIGH - LOW), rel=1e-5
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.6), (2.0, 0.3), (5.0, 5.0), (0.1, 3.0)])
def test_beta_quantile_is_scipys(alpha: float, beta: float) -> None:
    special = pytest.importorskip("scipy.special")
    for probability in (0.0, 1e-6, 0.01, 0.3, 0.5, 0.77, 0.999, 1.0):
        expected = float(special.betaincinv(alpha, beta, probability))
        assert beta_quantile(probability, alpha, beta) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_beta_quantile_refuses_impossible_parameters() -> None:
    assert beta_cdf(0.25, 1.0, 1.0) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="positive alpha"):
        beta_quantile(0.5, 0.0, 1.0)


def test_own_schedule_and_the_one_asked_for() -> None:
    assert build("DPM++ 2M Karras").tolist() == levels("karras", 10)
    assert build("Euler").tolist() == levels("uniform", 10)
    assert build("DPM++ 2M Karras", "exponential").tolist() == levels("exponential", 10)
    assert build("DPM++ 2M Karras", "automatic").tolist() == levels("karras", 10)


def test_discarded_level_is_the_next_to_last_of_one_step_more() -> None:
    full = levels("uniform", 11)
    assert build("DPM2").tolist() == [*full[:-2], 0.0]
    assert build("Euler", discard_next_to_last=True).tolist() == [*full[:-2], 0.0]
    assert build("DPM2", discard_next_to_last=True).tolist() == build("DPM2").tolist()


def test_overrides_apply_only_to_a_schedule_that_was_asked_for() -> None:
    overrides = SigmaOverrides(sigma_min=0.1, sigma_max=8.0, rho=5.0)
    assert build("DPM++ 2M Karras", overrides=overrides).tolist() == levels("karras", 10)
    sigmas = build("Euler", "karras", overrides=overrides)
    assert sigmas[0] == pytest.approx(8.0, rel=1e-5)
    assert sigmas[-2] == pytest.approx(0.1, rel=1e-4)
    assert sigmas[1].item() ** 0.2 == pytest.approx(8**0.2 + (0.1**0.2 - 8**0.2) / 9, rel=1e-5)


def test_rho_does_not_reach_exponential() -> None:
    with_rho = build("Euler", "exponential", overrides=SigmaOverrides(rho=5.0))
    assert with_rho.tolist() == levels("exponential", 10)


def test_old_karras_range() -> None:
    for name, asked in [("DPM++ 2M Karras", None), ("Euler", "karras"), ("Euler", "exponential")]:
        sigmas = build(name, asked, use_old_karras=True)
        assert sigmas[0] == pytest.approx(10.0, rel=1e-5)
        assert sigmas[-2] == pytest.approx(0.1, rel=1e-4)
    own = build("DPM++ 2M SDE Exponential", use_old_karras=True)
    assert own[0] == pytest.approx(HIGH, rel=1e-5)


def test_no_steps_leave_the_final_zero() -> None:
    assert build("DPM2", steps=0).tolist() == [0.0]
