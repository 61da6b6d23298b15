"""Soft inpainting: the blend's arithmetic, the filter, and what a whole request gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from latentd_scripts.soft_blend import blend_latents, step_weights
from latentd_scripts.weighted_filter import radial_kernel, weighted_window_mean

ARGS = {"alwayson_scripts": {"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}}


def test_a_blend_is_one_side_where_the_weight_says_so() -> None:
    rng = torch.Generator().manual_seed(1)
    old, new = torch.randn(1, 4, 8, 8, generator=rng), torch.randn(1, 4, 8, 8, generator=rng)
    assert torch.allclose(blend_latents(old, new, torch.zeros(1, 1, 8, 8), exponent=4), old, atol=1e-4)
    assert torch.allclose(blend_latents(old, new, torch.ones(1, 1, 8, 8), exponent=4), new, atol=1e-4)


def test_a_blend_does_not_shrink_between_opposites() -> None:
    old, new = torch.zeros(1, 4, 1, 1), torch.zeros(1, 4, 1, 1)
    old[:, 0], new[:, 1] = 2.0, 2.0
    blended = blend_latents(old, new, torch.full((1, 1, 1, 1), 0.5), exponent=4)
    assert torch.allclose(blended.norm(), torch.tensor(2.0), atol=1e-3)


def test_weights_lean_to_the_original_when_noise_is_high() -> None:
    share = torch.tensor([0.0, 0.5, 1.0])
    high, low = (step_weights(share, level, bias=1, strength=0.5) for level in (10.0, 0.1))
    assert high[1] < low[1]
    assert (high[0], high[2]) == (0.0, 1.0)


def test_the_filter_takes_peaks_or_the_middle() -> None:
    kernel = radial_kernel(reach=1.5, radius=2)
    cells = np.zeros((7, 7), dtype=np.float32)
    cells[3, 3] = 9.0
    assert weighted_window_mean(cells, kernel, low=0.9, high=1.0)[3, 4] > 1.0
    assert weighted_window_mean(cells, kernel, low=0.25, high=0.75).max() < 1.0
    assert np.allclose(weighted_window_mean(np.full((4, 5), 2.0, np.float32), kernel, low=0.25, high=0.75), 2.0)


def test_off_means_plain_inpainting(draw: Callable[..., Any], picture: str, soft_mask: str) -> None:
    fields = {"init_images": [picture], "mask": soft_mask, "inpaint_full_res": False, "inpainting_fill": 1}
    plain = draw("img2img", **fields)
    off = draw("img2img", **fields, alwayson_scripts={"Soft Inpainting": {"args": [False]}})
    soft = draw("img2img", **fields, **ARGS)
    assert np.array_equal(plain.images[0], off.images[0])
    assert not np.array_equal(plain.images[0], soft.images[0])
    assert soft.info["extra_generation_params"]["Soft inpainting difference contrast"] == 2


def test_a_whole_batch_is_overlaid_also_with_timesteps(draw: Callable[..., Any], picture: str, soft_mask: str) -> None:
    fields = {"init_images": [picture], "mask": soft_mask, "sampler_name": "DDIM", **ARGS}
    batch, second = draw("img2img", **fields, batch_size=2), draw("img2img", **fields, seed=8)
    assert len(batch.images) == 2
    assert abs(batch.images[1].astype(int) - second.images[0]).max() <= 1


def test_without_a_mask_it_does_nothing(draw: Callable[..., Any], picture: str) -> None:
    plain, asked = draw("img2img", init_images=[picture]), draw("img2img", init_images=[picture], **ARGS)
    assert np.array_equal(plain.images[0], asked.images[0])
    assert "Soft inpainting" not in asked.info["infotexts"][0]


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_a_picture_of_another_size_is_overlaid_in_every_resize_mode(
    draw: Callable[..., Any], picture: str, soft_mask: str, mode: int
) -> None:
    fields = {"init_images": [picture], "mask": soft_mask, "inpaint_full_res": False, "resize_mode": mode, **ARGS}
    assert draw("img2img", **fields, width=72, height=48).images[0].shape[:2] == (48, 72)
