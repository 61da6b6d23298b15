"""Alpha matting and foreground colours against their papers' formulas, written out."""

from __future__ import annotations

import numpy as np
import pytest
from latentd_rembg.cutting import Matting, eroded, matte, trimap_of
from latentd_rembg.foreground import estimate_foreground, one_round
from latentd_rembg.matting import EPSILON, Laplacian, estimate_alpha
from PIL import Image


def levin(image: np.ndarray) -> np.ndarray:
    """The matting Laplacian as a matrix, entry by entry: equation 12 of Levin et al. 2008."""
    height, width, _ = image.shape
    matrix = np.zeros((height * width, height * width))
    for top in range(height - 2):
        for left in range(width - 2):
            inside = [(top + y) * width + left + x for y in range(3) for x in range(3)]
            colours = image.reshape(-1, 3)[inside]
            mean = colours.mean(axis=0)
            covariance = (colours - mean).T @ (colours - mean) / 9
            inverse = np.linalg.inv(covariance + EPSILON / 9 * np.eye(3))
            for i, row in enumerate(inside):
                for j, column in enumerate(inside):
                    term = (1 + (colours[i] - mean) @ inverse @ (colours[j] - mean)) / 9
                    matrix[row, column] += (row == column) - term
    return matrix


@pytest.fixture
def image() -> np.ndarray:
    """Colours that are neither even nor noise alone, [7,9,3]."""
    rng = np.random.default_rng(3)
    return np.clip(np.linspace(0, 1, 7 * 9 * 3).reshape(7, 9, 3) + rng.normal(0, 0.1, (7, 9, 3)), 0, 1)


def test_the_products_with_the_laplacian_are_those_with_its_matrix(image: np.ndarray) -> None:
    matrix, found = levin(image), Laplacian.of(image, np.ones((7, 9), bool))
    plane = np.random.default_rng(5).normal(size=63)
    assert np.allclose(found.times(plane), matrix @ plane, atol=1e-9)
    assert np.allclose(found.diagonal(), np.diag(matrix), atol=1e-9)


def test_windows_without_unknown_pixels_are_left_out(image: np.ndarray) -> None:
    unknown = np.zeros((7, 9), bool)
    unknown[5, 1] = unknown[6, 2] = True
    matrix, found = levin(image), Laplacian.of(image, unknown)
    plane = np.random.default_rng(5).normal(size=63)
    assert found.pixels.shape == (9, 5)
    assert np.allclose(found.times(plane)[unknown.ravel()], (matrix @ plane)[unknown.ravel()], atol=1e-9)


def test_opacity_is_the_solution_of_the_linear_system(image: np.ndarray) -> None:
    trimap = np.full((7, 9), 0.5)
    trimap[:, :3], trimap[:, 7:] = 0, 1
    matrix, known = levin(image), trimap.ravel() != 0.5
    expected = trimap.ravel().copy()
    expected[~known] = np.linalg.solve(matrix[~known][:, ~known], -matrix[~known][:, known] @ expected[known])
    assert np.abs(estimate_alpha(image, trimap) - np.clip(expected, 0, 1).reshape(7, 9)).max() < 1e-3


def mixed(side: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture whose opacity rises from left to right between two colours; with the opacity and the foreground."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    alpha = np.clip((columns - 0.3) / 0.4, 0, 1)
    front = np.stack([0.9 - 0.2 * rows, 0.2 + 0 * rows, 0.1 + 0 * rows], axis=2)
    back = np.stack([0.1 + 0 * rows, 0.3 + 0.2 * rows, 0.8 + 0 * rows], axis=2)
    return alpha[..., None] * front + (1 - alpha[..., None]) * back, alpha, front


def test_opacity_between_smooth_colours_is_found_again() -> None:
    picture, alpha, _ = mixed()
    trimap = np.where(alpha <= 0, 0.0, np.where(alpha >= 1, 1.0, 0.5))
    error = np.abs(estimate_alpha(picture, trimap) - alpha)
    assert error.max() < 0.05
    assert error.mean() < 0.01


def test_more_unknown_pixels_than_are_solved_for_come_from_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, alpha, _ = mixed()
    trimap = np.where(alpha <= 0, 0.0, np.where(alpha >= 1, 1.0, 0.5))
    monkeypatch.setattr("latentd_rembg.matting.MOST_UNKNOWN", np.count_nonzero(trimap == 0.5) - 1)
    found = estimate_alpha(picture, trimap)
    error = np.abs(found - alpha)
    assert error.mean() < 0.02
    assert error[trimap != 0.5].max() == 0


def test_the_foregrounds_own_colours_are_found_where_it_is_mixed() -> None:
    picture, alpha, front = mixed()
    found = estimate_foreground(picture, alpha)
    visible = alpha > 0.2
    assert np.abs(found - front)[visible].mean() < 0.02
    assert np.abs(picture - front)[visible].mean() > 0.1


def test_a_round_solves_two_equations_for_each_pixel() -> None:
    """Those of the paper, written out: the pixel's own colour, and its neighbours' by how little alpha changes."""
    rng = np.random.default_rng(4)
    image, front, back = (rng.uniform(0.2, 0.8, (3, 4, 3)) for _ in range(3))
    alpha = rng.uniform(size=(3, 4))
    found = one_round(*(plane.astype(np.float32) for plane in (image, alpha, front, back)))
    for y in range(3):
        for x in range(4):
            matrix = np.outer([alpha[y, x], 1 - alpha[y, x]], [alpha[y, x], 1 - alpha[y, x]])
            right = np.outer([alpha[y, x], 1 - alpha[y, x]], image[y, x])
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                j, i = min(max(y + dy, 0), 2), min(max(x + dx, 0), 3)
                weight = 1e-5 + abs(alpha[y, x] - alpha[j, i])
                matrix += weight * np.eye(2)
                right += weight * np.stack([front[j, i], back[j, i]])
            expected = np.clip(np.linalg.solve(matrix, right), 0, 1)
            assert np.allclose([found[0][y, x], found[1][y, x]], expected, atol=1e-4)


def test_the_estimate_may_be_stopped() -> None:
    picture, alpha, _ = mixed()

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        estimate_alpha(picture, np.where(alpha <= 0, 0.0, np.where(alpha >= 1, 1.0, 0.5)), stop)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 10, 40])
@pytest.mark.parametrize("outside", [False, True])
def test_erosion_is_scipys(size: int, outside: bool) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(size)
    mask = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 3) > -0.1
    structure = np.ones((size, size)) if size else None
    expected = ndimage.binary_erosion(mask, structure=structure, border_value=int(outside))
    assert np.array_equal(eroded(mask, size, outside=outside), expected)


def test_a_trimap_is_sure_away_from_the_edge_only() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, 10:] = 255
    trimap = trimap_of(mask, Matting(erode=4))
    assert np.array_equal(np.flatnonzero(trimap[10] == 0.5), [9, 10, 11, 19])
    assert set(trimap[10, :9]) == {0.0}
    # Beyond the picture there is no foreground, so that its edge is unsure.
    assert set(trimap[10, 12:19]) == {1.0}


def test_without_sure_foreground_there_is_nothing_to_estimate_from() -> None:
    picture = Image.new("RGB", (20, 20), "red")
    assert matte(picture, Image.new("L", (20, 20), 0), Matting()) is None
    assert matte(picture, Image.new("L", (20, 20), 255), Matting()) is None
    assert matte(picture, Image.new("L", (20, 20), 120), Matting()) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 3), (3, 200)])
def test_small_pictures_are_matted(size: tuple[int, int]) -> None:
    mask = Image.linear_gradient("L").resize(size)
    matted = matte(Image.new("RGB", size, "red"), mask, Matting(foreground=128, background=127, erode=1))
    assert matted is None or matted.size == size
