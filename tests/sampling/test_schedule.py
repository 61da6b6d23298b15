from __future__ import annotations

import pytest
import torch

from latentd.sampling.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()


def test_stable_diffusions_range() -> None:
    assert SCHEDULE.alphas_cumprod.dtype == torch.float32
    assert SCHEDULE.sigma_min == pytest.approx(0.0291675, abs=1e-6)
    assert SCHEDULE.sigma_max == pytest.approx(14.614642, abs=1e-4)


def test_timesteps_and_levels_are_inverse() -> None:
    t = torch.tensor([0.0, 0.5, 17.25, 500.0, 998.9, 999.0])
    assert torch.allclose(SCHEDULE.sigma_to_t(SCHEDULE.t_to_sigma(t)), t, atol=0.02)
    whole = torch.arange(0, 1000, 37)
    assert torch.equal(SCHEDULE.sigma_to_t(SCHEDULE.sigmas[whole], quantize=True), whole)


def test_levels_outside_the_range_count_as_its_ends() -> None:
    assert SCHEDULE.sigma_to_t(torch.tensor([0.001, 100.0])).tolist() == [0.0, 999.0]


def test_shape_is_kept() -> None:
    assert SCHEDULE.sigma_to_t(torch.tensor(1.0)).shape == ()
    assert SCHEDULE.sigma_to_t(torch.ones(2, 3)).shape == (2, 3)


def test_uniform_levels_descend_to_zero() -> None:
    sigmas = SCHEDULE.uniform_sigmas(5)
    assert len(sigmas) == 6
    assert sigmas[0] == pytest.approx(SCHEDULE.sigma_max)
    assert sigmas[-2] == pytest.approx(SCHEDULE.sigma_min)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())


def test_downcast_keeps_sixteen_bits() -> None:
    rounded = SCHEDULE.downcast()
    assert rounded.alphas_cumprod.dtype == torch.float16
    assert rounded.sigma_max == pytest.approx(SCHEDULE.sigma_max, rel=2e-3)
    assert rounded.sigma_max != SCHEDULE.sigma_max


def test_zero_terminal_snr_moves_only_the_end_to_noise() -> None:
    stretched = SCHEDULE.zero_terminal_snr()
    assert stretched.alphas_cumprod[0] == pytest.approx(SCHEDULE.alphas_cumprod[0].item())
    assert stretched.alphas_cumprod[-1].item() == pytest.approx(4.8973451890853435e-08)
    assert SCHEDULE.alphas_cumprod[-1] > 0.004  # the original is untouched


def test_lcm_schedule_has_every_twentieth_level_at_the_models_timesteps() -> None:
    lcm = SCHEDULE.lcm()
    assert torch.equal(lcm.sigmas, SCHEDULE.sigmas[19::20])
    assert lcm.sigma_to_t(lcm.sigmas).tolist() == list(range(19, 1000, 20))
    assert torch.allclose(lcm.t_to_sigma(torch.tensor([19, 999])), lcm.sigmas[[0, -1]])
    assert lcm.uniform_sigmas(4)[:-1].tolist() == pytest.approx(
        lcm.t_to_sigma(torch.tensor([999.0, 672.3333, 345.6667, 19.0])).tolist(), rel=1e-4
    )


def test_lcm_output_is_almost_the_prediction() -> None:
    x, denoised = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)
    assert SCHEDULE.scale_output(torch.tensor([1.0]), denoised, x) is denoised
    scaled = SCHEDULE.lcm().scale_output(SCHEDULE.sigmas[19:20], denoised, x)
    c_skip, c_out = 0.25 / (190**2 + 0.25), 190 / (190**2 + 0.25) ** 0.5
    assert torch.allclose(scaled, torch.full_like(x, c_out * 3 + c_skip))


def test_betas_of_a_model_file() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000)
    assert NoiseSchedule.from_betas(betas).alphas_cumprod[1].item() == pytest.approx((1 - 1e-4) * (1 - betas[1].item()))


def test_the_levels_of_every_schedule_are_finite_also_in_half_precision() -> None:
    """Downcast and stretched to zero SNR, the ratio of the last alphas is beyond float16, its root is not."""
    plain = NoiseSchedule.scaled_linear()
    for schedule in (plain, plain.downcast(), plain.zero_terminal_snr(), plain.downcast().zero_terminal_snr()):
        assert schedule.sigmas.isfinite().all()
        assert (schedule.sigmas[1:] >= schedule.sigmas[:-1]).all()
    assert float(plain.downcast().zero_terminal_snr().sigmas[-1]) == 4096
