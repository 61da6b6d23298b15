"""What passes hand on to one another: models, seeds, samplers, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.stages.conftest import Draw, Latents, gradient, pixels, same

from latentd.generations import Plan

REFINER = {"refiner_checkpoint": "other", "refiner_switch_at": 0.5, "steps": 4}
HIRES = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 2.0, "denoising_strength": 0.7, "steps": 3}


# --- the refiner -----------------------------------------------------------------------------------------------------


def test_the_refiner_changes_the_picture(draw: Draw) -> None:
    assert not same(draw(steps=4), draw(**REFINER))


def test_every_batch_begins_with_the_base_model(draw: Draw) -> None:
    """The refiner that ended one batch does not begin the next."""
    both = draw(**REFINER, n_iter=2)
    assert same(both, draw(**REFINER, seed=8), index=1)


def test_hires_fix_begins_with_the_base_model(draw: Draw) -> None:
    """The refiner ends the first pass; the second is the checkpoint's own, as if it were named."""
    first = {"hires_fix_refiner_pass": "first pass"}
    assert same(draw(first, **REFINER, **_without("steps")), draw(first, **REFINER, **_without("steps"), **NAMED))


NAMED = {"hr_checkpoint_name": "base"}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in HIRES.items() if key != name}


@pytest.mark.parametrize(("option", "refined"), [("first pass", True), ("second pass", False)])
def test_the_refiner_acts_in_the_pass_of_the_option(draw: Draw, latents: Latents, option: str, refined: bool) -> None:
    """With a second pass of no strength only the first is seen."""
    hires = {**HIRES, "steps": 4, "denoising_strength": 0.0}
    fields = {**REFINER, **hires}
    with_refiner = latents.of(draw, {"hires_fix_refiner_pass": option}, **fields)
    without = latents.of(draw, **hires)
    assert with_refiner.allclose(without) is not refined


# --- hires fix -------------------------------------------------------------------------------------------------------


def test_the_second_pass_has_its_own_sampler(draw: Draw) -> None:
    assert not same(draw(**HIRES), draw(**HIRES, hr_sampler_name="DPM++ 2M"))


def test_the_second_pass_has_its_own_prompt(draw: Draw) -> None:
    assert not same(draw(**HIRES), draw(**HIRES, hr_prompt="a house"))
    assert not same(draw(**HIRES), draw(**HIRES, hr_negative_prompt="a house"))


def test_the_second_pass_has_its_own_checkpoint(draw: Draw) -> None:
    assert not same(draw(**HIRES), draw(**HIRES, hr_checkpoint_name="other"))


def test_a_second_pass_of_no_strength_is_the_enlarged_first(draw: Draw, latents: Latents) -> None:
    first = latents.of(draw, steps=3)
    second = latents.of(draw, **{**HIRES, "denoising_strength": 0.0, "hr_upscaler": "Latent (nearest)"})
    assert second[..., ::2, ::2].allclose(first)


def test_a_size_of_another_shape_is_cut_from_the_middle(draw: Draw, latents: Latents) -> None:
    fields = {**HIRES, "denoising_strength": 0.0, "hr_upscaler": "Latent (nearest)"}
    whole = latents.of(draw, **fields)
    cut = latents.of(draw, **fields, hr_resize_x=64, hr_resize_y=128)
    assert cut.shape[-2:] == (16, 8)
    assert cut.allclose(whole[..., 4:12])


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "n_iter"), [(1, 3), (2, 2)])
def test_every_picture_of_every_batch_has_its_own_seed(draw: Draw, batch_size: int, n_iter: int) -> None:
    result = draw({"return_grid": False}, batch_size=batch_size, n_iter=n_iter)
    count = batch_size * n_iter
    assert [image.seed for image in result.images] == list(range(7, 7 + count))
    assert same(result, draw(seed=6 + count), index=count - 1)


def test_a_variation_of_full_strength_is_the_picture_of_its_subseed(draw: Draw) -> None:
    assert same(draw(seed=7, subseed=9, subseed_strength=1.0), draw(seed=9))
    halfway = draw(seed=7, subseed=9, subseed_strength=0.5)
    assert not same(halfway, draw(seed=7))
    assert not same(halfway, draw(seed=9))


def test_variations_in_a_batch_have_subseeds_of_their_own(draw: Draw) -> None:
    result = draw({"return_grid": False}, subseed=9, subseed_strength=1.0, batch_size=2)
    assert [image.seed for image in result.images] == [7, 7]
    assert same(result, draw(seed=10), index=1)


def test_eta_noise_seed_delta_moves_the_noise_of_the_steps_alone(draw: Draw) -> None:
    ensd = {"eta_noise_seed_delta": 31337}
    assert same(draw(ensd), draw())
    assert not same(draw(ensd, sampler_name="Euler a"), draw(sampler_name="Euler a"))


# --- standing options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("s_min_uncond", 3.0),
        ("s_churn", 2.0),
        ("s_tmin", 0.5),
        ("s_tmax", 9.0),
        ("s_noise", 1.5),
        ("initial_noise_multiplier", 0.5),
    ],
)
def test_overrides_of_what_the_request_was_filled_with_come_too_late(
    plan: Callable[..., Plan], option: str, value: float
) -> None:
    """AUTOMATIC1111 fills these fields from the standing options before it applies ``override_settings``."""
    assert getattr(plan({option: value}), option) == getattr(plan(), option)
    assert getattr(plan(**{option: value}), option) == value


# --- noise added to a start ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["img2img", "hires"])
def test_extra_noise_is_added_to_what_a_pass_starts_from(draw: Draw, kind: str) -> None:
    fields = HIRES if kind == "hires" else {"mode": "img2img", "init_images": (gradient(),), "denoising_strength": 0.5}
    noisy = draw({"img2img_extra_noise": 0.3}, **fields)
    assert not same(noisy, draw(**fields))
    assert "Extra noise: 0.3" in (noisy.images[0].infotext or "")


# --- the model's other parts -----------------------------------------------------------------------------------------


def test_a_setting_beats_a_checkpoints_own_vae_where_the_option_says_so(draw: Draw) -> None:
    """``base.json`` names the VAE ``third``."""
    overrides = "sd_vae_overrides_per_model_preferences"
    third, fourth = draw({"sd_vae": "third.safetensors"}), draw({"sd_vae": "fourth.safetensors"})
    assert not same(third, fourth)
    assert same(draw({"sd_vae": "fourth.safetensors", overrides: False}), third)
    assert same(draw({"sd_vae": "Automatic"}), third)
    assert not same(draw({"sd_vae": "None"}), third)


def test_tiling_wraps_the_edges_and_ends_with_its_job(draw: Draw) -> None:
    plain = draw()
    assert not same(draw(tiling=True), plain)
    assert same(draw(), plain)


def test_the_pictures_are_no_plain_colour(draw: Draw) -> None:
    """Else nothing above would mean anything."""
    assert pixels(draw()).std() > 5
