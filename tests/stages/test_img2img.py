"""img2img's stages: what stays of the picture where nothing is repainted, and what its pictures are finished with."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tests.stages.conftest import SIZE, Draw, Latents, gradient, pixels, right_half, same

HALF = SIZE // 2
BARE = {"overlay_inpaint": False}
IMG2IMG: dict[str, Any] = {
    "mode": "img2img",
    "init_images": (gradient(),),
    "denoising_strength": 0.8,
    "steps": 3,
}
MASKED: dict[str, Any] = {**IMG2IMG, "mask": right_half(), "mask_blur": 0, "inpainting_fill": 1}


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ SDE"])
def test_the_latents_outside_the_mask_are_the_pictures_own(draw: Draw, latents: Latents, sampler: str) -> None:
    """To the bit, whatever the sampler does after the last blend; inside, the seed tells."""
    one, other = (latents.of(draw, **MASKED, sampler_name=sampler, seed=seed) for seed in (1, 2))
    cells = HALF // 8
    assert (one[..., :cells] == other[..., :cells]).all()
    assert not one[..., cells:].allclose(other[..., cells:])


def test_the_mask_acts_during_sampling_and_not_at_its_end_alone(draw: Draw, latents: Latents) -> None:
    """What is repainted sees what is kept: without a mask, the same half is drawn otherwise."""
    cells = HALF // 8
    for sampler in ("Euler", "DDIM"):
        masked = latents.of(draw, **MASKED, sampler_name=sampler)
        whole = latents.of(draw, **IMG2IMG, sampler_name=sampler)
        assert not masked[..., cells:].allclose(whole[..., cells:], atol=1e-3)


def test_a_last_batch_of_fewer_pictures_is_masked_too(draw: Draw) -> None:
    drawn = draw({"return_grid": False}, **MASKED, prompt=["a", "b", "c"], batch_size=2, n_iter=2, seed=4)
    alone = draw(**MASKED, prompt="c", seed=6)
    assert len(drawn.images) == 3
    assert same(drawn, alone, index=2)


def test_the_picture_is_laid_over_the_result_outside_the_mask(draw: Draw) -> None:
    init = np.asarray(gradient()).astype(np.int16)
    over, bare = pixels(draw(**MASKED)), pixels(draw(BARE, **MASKED))
    assert (over[:, :HALF] == init[:, :HALF]).all()
    assert (over[:, HALF:] == bare[:, HALF:]).all()
    assert not (bare[:, :HALF] == init[:, :HALF]).all()


def test_only_the_masked_part_is_put_back_where_it_came_from(draw: Draw) -> None:
    large, mask = gradient(4 * SIZE), right_half(4 * SIZE)
    mask.paste(0, (0, 0, 4 * SIZE, 3 * SIZE))
    fields = {**MASKED, "init_images": (large,), "mask": mask, "inpaint_full_res": True, "inpaint_full_res_padding": 0}
    picture, init = pixels(draw(**fields)), np.asarray(large).astype(np.int16)
    assert picture.shape == init.shape
    outside = np.asarray(mask) == 0
    assert (picture[outside] == init[outside]).all()
    assert not (picture[~outside] == init[~outside]).all()


def test_colours_are_corrected_to_those_of_the_picture(draw: Draw) -> None:
    wanted = np.asarray(gradient()).astype(float).mean(axis=(0, 1))
    plain = pixels(draw(**IMG2IMG)).mean(axis=(0, 1))
    corrected = pixels(draw({"img2img_color_correction": True}, **IMG2IMG)).mean(axis=(0, 1))
    assert np.abs(corrected - wanted).max() < np.abs(plain - wanted).max() / 2


def test_the_mask_and_the_composite_are_returned_where_asked_for(draw: Draw) -> None:
    result = draw({"return_mask": True, "return_mask_composite": True}, **MASKED)
    _, mask, composite = (np.asarray(image.image) for image in result.images)
    assert (mask[:, :HALF] == 0).all()
    assert (mask[:, HALF:] == 255).all()
    assert composite.shape[-1] == 4
    assert (composite[:, :HALF, 3] == 0).all()


def test_what_fills_the_mask_is_seen(draw: Draw) -> None:
    """Its surroundings, the picture itself, latent noise, and latent nothing."""
    filled = [draw(**{**MASKED, "inpainting_fill": fill}) for fill in range(4)]
    assert not any(same(one, other) for one, other in itertools.combinations(filled, 2))


def test_an_inverted_mask_repaints_the_other_half(draw: Draw) -> None:
    init = np.asarray(gradient()).astype(np.int16)
    picture = pixels(draw(**MASKED, inpainting_mask_invert=1))
    assert (picture[:, HALF:] == init[:, HALF:]).all()
    assert not (picture[:, :HALF] == init[:, :HALF]).all()


def test_the_noise_multiplier_acts(draw: Draw) -> None:
    assert not same(draw(**IMG2IMG), draw(**IMG2IMG, initial_noise_multiplier=0.7))


def test_two_pictures_make_a_batch_each_with_its_own_overlay(draw: Draw) -> None:
    black = gradient().point(lambda value: 0)
    fields = {**MASKED, "init_images": (gradient(), black), "batch_size": 2}
    result = draw({"return_grid": False}, **fields)
    assert (pixels(result, 0)[:, :HALF] == np.asarray(gradient())[:, :HALF]).all()
    assert (pixels(result, 1)[:, :HALF] == 0).all()
