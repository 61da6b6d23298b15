"""The techniques' formulas against numbers reckoned by other means."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from latentd_guidance.dynamic_thresholding import Course, DynamicThresholdingArgs, combine, percentile_of, scale_at
from latentd_guidance.freeu import amplify_strong, scale_low_frequencies
from latentd_guidance.multidiffusion import tile_weight, tile_windows
from latentd_guidance.perturbed_attention import PerturbedAttentionArgs, PerturbedAttentionHook
from latentd_guidance.rescale_cfg import RescaleCFGArgs, RescaleCFGHook, rescale
from latentd_guidance.resizing import resize_features
from latentd_guidance.self_attention import attention_received, blur, blur_where_seen, grid_of
from torch import Tensor

from latentd.api import GuidedStep


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- FreeU -----------------------------------------------------------------------------------------------------------


def test_freeu_amplifies_half_of_the_channels_where_their_mean_is_high() -> None:
    hidden = noise(2, 6, 3, 4)
    found = amplify_strong(hidden, 1.4)
    for row, picture in enumerate(hidden.numpy()):
        mean = picture.mean(axis=0)
        weight = (mean - mean.min()) / (mean.max() - mean.min())
        np.testing.assert_allclose(found[row, :3], picture[:3] * (1 + 0.4 * weight), rtol=1e-5)
        np.testing.assert_array_equal(found[row, 3:], picture[3:])


def test_freeu_scales_the_lowest_frequencies_alone() -> None:
    skip = noise(1, 2, 8, 6)
    found = scale_low_frequencies(skip, 0.2).numpy()
    # The square of the shifted spectrum that the paper's code scales: two cells a side, up to and with its centre.
    spectrum = np.fft.fftshift(np.fft.fft2(skip.numpy()), axes=(-2, -1))
    spectrum[..., 3:5, 2:4] *= 0.2
    np.testing.assert_allclose(found, np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real, atol=1e-5)


def test_freeu_keeps_a_flat_map_finite() -> None:
    assert torch.equal(amplify_strong(torch.ones(1, 4, 2, 2), 1.5), torch.ones(1, 4, 2, 2))


# --- guidance by attention -------------------------------------------------------------------------------------------


class Attention:
    """An attention's projections, as handlers find them."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (torch.nn.Linear(width, width, bias=False) for _ in range(3))


def test_the_attention_that_places_receive() -> None:
    torch.manual_seed(1)
    module = Attention(8, 2)
    hidden = noise(3, 5, 8)
    found = attention_received(SimpleNamespace(module=module), hidden)  # type: ignore[arg-type]
    expected = torch.zeros(3, 5)
    for row in range(3):
        for head in range(2):
            part = slice(head * 4, head * 4 + 4)
            q, k = module.to_q(hidden[row])[:, part], module.to_k(hidden[row])[:, part]
            expected[row] += torch.softmax(q @ k.T / math.sqrt(4), dim=-1).sum(dim=0) / 2
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(found.sum(dim=1), torch.tensor(5.0), atol=1e-4)


def test_the_blur_is_a_gaussian_of_its_sigma() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    found = blur(point, 1.5)[0, 0]
    line = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    line /= line.sum()
    np.testing.assert_allclose(found[6:15, 6:15], np.outer(line, line), atol=1e-6)
    assert torch.allclose(blur(torch.full((1, 4, 9, 9), 3.0), 2.0), torch.tensor(3.0))


def test_only_what_is_seen_is_blurred() -> None:
    latent = noise(1, 4, 16, 16)
    seen = torch.zeros(1, 4)
    seen[0, 1] = 2.0
    found = blur_where_seen(latent, seen, 2.0, 1.0)
    assert torch.equal(found[..., :8], latent[..., :8])
    assert torch.allclose(found[..., :8, 8:], blur(latent, 2.0)[..., :8, 8:])


@pytest.mark.parametrize(
    ("size", "halvings", "grid"), [((64, 64), 3, (8, 8)), ((9, 7), 2, (3, 2)), ((65, 33), 3, (9, 5))]
)
def test_the_grid_of_the_middle_block(size: tuple[int, int], halvings: int, grid: tuple[int, int]) -> None:
    assert grid_of(grid[0] * grid[1], *size) == grid


def step(cond: Tensor, uncond: Tensor, scale: float, sigma: float = 2.0, **extra: Any) -> GuidedStep:
    rows = cond.shape[0]
    return GuidedStep(
        latent=extra.pop("latent", torch.zeros_like(cond)),
        sigma=torch.full((rows,), sigma),
        timestep=torch.full((rows,), 500.0),
        cond=cond,
        uncond=uncond,
        cfg_scale=scale,
        call=extra.pop("call", None),
        predict=extra.pop("predict", None),
    )


def test_perturbed_attention_pushes_from_the_perturbed_and_fades() -> None:
    hook = PerturbedAttentionHook(PerturbedAttentionArgs(enabled=True, scale=2.0, attenuation=50, end_step=0.9))
    cond, x0 = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 5.0)

    def at(number: int) -> float:
        call = SimpleNamespace(step=number, steps=5)
        asked = step(cond, cond, 3.0, call=call, predict=lambda latent, positive, tag: latent + 0.25)
        return float(hook.guide(asked, x0).mean())

    hook.open(None)  # type: ignore[arg-type]
    assert [at(number) for number in (0, 1, 2)] == [5 + 0.75 * 2, 5 + 0.75 * 1, 5]
    hook.open(None)  # type: ignore[arg-type]
    assert [at(number) for number in (4, 0)] == [5, 6.5]


# --- rescaled guidance, dynamic thresholding ------------------------------------------------------------------------


def test_rescaled_guidance_has_the_deviation_of_the_prompt() -> None:
    cond, guided = noise(2, 4, 8, 8), 3 * noise(2, 4, 8, 8, seed=1)
    whole, half = (rescale(guided, cond, share, alternative=False) for share in (1.0, 0.5))
    assert torch.allclose(whole.std(dim=(1, 2, 3)), cond.std(dim=(1, 2, 3)), rtol=1e-4)
    assert torch.allclose(half, (whole + guided) / 2, atol=1e-5)


def test_rescaled_guidance_works_on_v() -> None:
    sigma, latent = 2.0, noise(1, 4, 8, 8, seed=5)
    v_cond, v_uncond = noise(1, 4, 8, 8, seed=6), noise(1, 4, 8, 8, seed=7)
    root = math.sqrt(sigma**2 + 1)

    def clean(v: Tensor) -> Tensor:
        return latent / root**2 - v * sigma / root

    v_guided = v_uncond + 4.0 * (v_cond - v_uncond)
    expected = clean(v_guided * (0.3 + 0.7 * v_cond.std() / v_guided.std()))
    asked = step(clean(v_cond), clean(v_uncond), 4.0, sigma, latent=latent)
    found = RescaleCFGHook(RescaleCFGArgs(enabled=True)).guide(asked, clean(v_guided))
    assert torch.allclose(found, expected, atol=1e-4)


def thresholded(cond: np.ndarray, uncond: np.ndarray, cfg: float, mimic: float, percentile: float) -> np.ndarray:
    """The published procedure for one picture, channel by channel."""
    result = np.empty_like(cond)
    for channel in range(cond.shape[0]):
        guided = uncond[channel] + cfg * (cond[channel] - uncond[channel])
        low = uncond[channel] + mimic * (cond[channel] - uncond[channel])
        wanted = np.abs(low - low.mean()).max()
        limit = max(wanted, np.quantile(np.abs(guided - guided.mean()), percentile))
        result[channel] = np.clip(guided - guided.mean(), -limit, limit) / limit * wanted + guided.mean()
    return result


@pytest.mark.parametrize("percentile", [1.0, 0.9])
def test_thresholded_guidance_is_the_published_procedure(percentile: float) -> None:
    cond, uncond = noise(1, 4, 6, 6), noise(1, 4, 6, 6, seed=2)
    args = DynamicThresholdingArgs(enabled=True, mimic_scale=3.0, threshold_percentile=percentile)
    found = combine(cond, uncond, 15.0, 0.5, args)[0]
    np.testing.assert_allclose(found, thresholded(cond[0].numpy(), uncond[0].numpy(), 15.0, 3.0, percentile), atol=1e-4)


def test_thresholding_by_deviation_from_zero_and_in_part() -> None:
    cond, uncond = noise(1, 4, 6, 6), noise(1, 4, 6, 6, seed=2)
    guided, mimic = (uncond + scale * (cond - uncond) for scale in (15.0, 3.0))
    fields: dict[str, Any] = {"enabled": True, "mimic_scale": 3.0, "variability_measure": "STD"}
    whole = combine(cond, uncond, 15.0, 0.5, DynamicThresholdingArgs(**fields))
    assert torch.allclose(whole.std(dim=(2, 3)), mimic.std(dim=(2, 3)), rtol=1e-4)
    assert torch.allclose(whole.mean(dim=(2, 3)), guided.mean(dim=(2, 3)), atol=1e-4)
    zero = combine(cond, uncond, 15.0, 0.5, DynamicThresholdingArgs(**fields, scaling_startpoint="ZERO"))
    assert torch.allclose(zero, guided * (mimic.std(dim=(2, 3)) / guided.std(dim=(2, 3)))[..., None, None], atol=1e-3)
    part = combine(cond, uncond, 15.0, 0.5, DynamicThresholdingArgs(**fields, interpolate_phi=0.25))
    assert torch.allclose(part, whole * 0.25 + guided * 0.75, atol=1e-4)
    together = combine(cond, uncond, 15.0, 0.5, DynamicThresholdingArgs(**fields, separate_feature_channels="disable"))
    assert not torch.allclose(together, whole, atol=1e-2)


def test_a_percentile_lies_between_its_neighbours() -> None:
    values = noise(3, 11)
    for percentile in (0.0, 0.33, 0.95, 1.0):
        assert torch.allclose(percentile_of(values, percentile), values.quantile(percentile, dim=1), atol=1e-6)


COURSES: list[tuple[Course, float, float, float]] = [
    ("Constant", 0.3, 1, 10.0),
    ("Linear Down", 0.25, 1, 2 + 8 * 0.75),
    ("Linear Up", 0.25, 1, 2 + 8 * 0.25),
    ("Cosine Down", 0.5, 1, 2 + 8 * math.sqrt(0.5)),
    ("Cosine Up", 0.5, 1, 2 + 8 * (1 - math.sqrt(0.5))),
    ("Half Cosine Down", 1.0, 1, 2 + 8 * math.cos(1)),
    ("Half Cosine Up", 1.0, 1, 2 + 8 * (1 - math.cos(1))),
    ("Power Up", 0.5, 2, 2 + 8 * 0.25),
    ("Power Down", 0.5, 2, 2 + 8 * 0.75),
    ("Linear Repeating", 0.375, 2, 2 + 8 * 0.5),
    ("Cosine Repeating", 0.25, 2, 2.0),
    ("Sawtooth", 0.375, 2, 2 + 8 * 0.75),
]


@pytest.mark.parametrize(("course", "share", "value", "expected"), COURSES)
def test_the_courses_of_a_scale(course: Course, share: float, value: float, expected: float) -> None:
    assert scale_at(10.0, 2.0, course, share, value) == pytest.approx(expected, abs=1e-6)


# --- tiles, sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "starts"),
    [((64, 64), (64, 64), 8, ([0], [0])), ((128, 96), (64, 64), 8, ([0, 32, 64], [0, 32])),
     ((65, 64), (64, 128), 0, ([0, 1], [0])), ((8, 32), (16, 2), 6, ([0], list(range(0, 32, 2))))],
)  # fmt: skip
def test_tiles_cover_the_latent_evenly(
    size: tuple[int, int], tile: tuple[int, int], overlap: int, starts: tuple[list[int], list[int]]
) -> None:
    windows = tile_windows(*size, *tile, overlap)
    assert ([*dict.fromkeys(w.top for w in windows)], [*dict.fromkeys(w.left for w in windows)]) == starts
    seen = torch.zeros(size)
    for w in windows:
        seen[w.top : w.top + w.height, w.left : w.left + w.width] += 1
    assert seen.min() >= 1


def test_a_tile_counts_most_in_its_middle() -> None:
    (tile,) = tile_windows(9, 5, 9, 5, 0)
    weight = tile_weight(tile, gaussian=True)
    assert weight[4, 2] == weight.max() == 1
    # The density of a normal distribution of variance 0.01 over a tile 1 wide, relative to its middle.
    assert float(weight[0, 2]) == pytest.approx(math.exp(-((4 / 9) ** 2) / 0.02), rel=1e-5)
    assert torch.equal(tile_weight(tile, gaussian=False), torch.ones(9, 5))


def test_features_are_resized_by_torch_or_on_arcs() -> None:
    features = noise(1, 8, 6, 4)
    assert torch.equal(resize_features(features, [3, 2], "area"), F.interpolate(features, size=[3, 2], mode="area"))
    larger = resize_features(features, [12, 8], "bislerp")
    assert larger.shape == (1, 8, 12, 8)
    # On an arc lengths do not shrink as they do on the chord between two directions.
    chord = F.interpolate(features, size=[12, 8], mode="bilinear")
    assert larger.norm(dim=1).mean() > chord.norm(dim=1).mean()
    assert torch.allclose(resize_features(features, [6, 4], "bislerp"), features, atol=1e-5)
    opposite = torch.cat([torch.ones(1, 2, 1, 1), -torch.ones(1, 2, 1, 1)], dim=3)
    assert bool(resize_features(opposite, [1, 4], "bislerp").isfinite().all())
