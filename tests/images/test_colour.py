"""Arrays in data/opencv.npz were made with OpenCV 5.0, scikit-image 0.26 and blendmodes 2022."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentd.images.blur import blur_axis, gaussian_kernel
from latentd.images.colour import correct_colours, correction_target, match_histograms, with_luminosity_of
from latentd.images.lab import lab_to_rgb, rgb_to_lab
from latentd.images.masks import blur_mask

DATA = np.load(Path(__file__).parent / "data" / "opencv.npz")


def decibels(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    error = np.mean((left.astype(float) - right.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize(("x", "y"), [(4, 4), (1, 0), (0, 2), (12, 12)])
def test_mask_blur_is_opencvs_to_the_bit(x: int, y: int) -> None:
    blurred = np.asarray(blur_mask(Image.fromarray(DATA["mask"]), x, y))
    np.testing.assert_array_equal(blurred, DATA[f"blur_{x}_{y}"])


@pytest.mark.parametrize("sigma", [0.5, 1, 4, 64])
def test_kernels_keep_flat_areas_flat(sigma: float) -> None:
    size = 2 * int(2.5 * sigma + 0.5) + 1
    kernel = gaussian_kernel(size, sigma)
    assert kernel.sum() == 256
    assert (kernel == kernel[::-1]).all()
    flat = np.full((5, 9), 201, dtype=np.uint8)
    np.testing.assert_array_equal(blur_axis(flat, sigma=sigma, axis=1, size=size), flat)


@pytest.mark.parametrize("name", ["a", "b"])
def test_lab_and_back_follow_opencv(name: str) -> None:
    lab = rgb_to_lab(DATA[name])
    assert np.abs(lab.astype(int) - DATA[f"lab_{name}"]).max() <= 1
    assert decibels(lab, DATA[f"lab_{name}"]) > 70
    assert decibels(lab_to_rgb(DATA[f"lab_{name}"]), DATA[f"rgb_{name}"]) > 55


def test_histogram_matching_is_scikit_images() -> None:
    np.testing.assert_array_equal(match_histograms(DATA["lab_b"], DATA["lab_a"]), DATA["matched"])


def test_correction_as_a_whole_agrees() -> None:
    corrected = correct_colours(correction_target(Image.fromarray(DATA["a"])), Image.fromarray(DATA["b"]))
    assert decibels(np.asarray(corrected), DATA["corrected"]) > 55


def test_luminosity_comes_from_the_second_picture() -> None:
    colours = np.array([[[200, 40, 40], [0, 0, 0]]], dtype=np.uint8)
    light = np.array([[[90, 90, 90], [255, 255, 255]]], dtype=np.uint8)
    blended = with_luminosity_of(colours, light).astype(float)
    luma = blended @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(luma, [[90, 255]], atol=1.5)
    assert blended[0, 0, 0] > blended[0, 0, 1]
