"""Maps of the preprocessors without weights, and how maps are fitted to pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from latentd_controlnet.enums import ResizeMode
from latentd_controlnet.fitting import fit_map
from latentd_controlnet.maps import as_shown, map_seed, pixel_perfect
from latentd_controlnet.preprocessors.table import specs

from latentd.api import NotConfigured, TooLarge

SPECS = {spec.name: spec for spec in specs()}


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth picture of many colours with some noise, 96x64."""
    y, x = np.mgrid[:64, :96]
    noise = np.random.RandomState(0).randint(0, 30, (64, 96))
    return np.stack([x * 2, y * 3, (x + y) % 200 + noise], axis=2).clip(0, 255).astype(np.uint8)


def run(name: str, image: np.ndarray, resolution: float = 64, a: float = 0, b: float = 0, **more: Any) -> np.ndarray:
    found: np.ndarray = SPECS[name].run(
        image, {"resolution": resolution, "threshold_a": a, "threshold_b": b, **more}, None
    )
    return found


def test_canny_is_opencvs(photo: np.ndarray) -> None:
    expected = cv2.Canny(photo, 100, 200)
    assert np.array_equal(run("canny", photo, 64, 100, 200)[:, :, 1], expected)


@pytest.mark.parametrize("name", ["canny", "blur_gaussian", "scribble_xdog", "threshold", "lineart_standard"])
def test_the_short_side_becomes_the_resolution(photo: np.ndarray, name: str) -> None:
    assert run(name, photo, 128, 20, 40).shape == (128, 192, 3)
    assert run(name, photo, 100, 20, 40).shape == (100, 150, 3)


def test_simple_maps(photo: np.ndarray) -> None:
    assert np.array_equal(run("invert", photo), 255 - photo)
    assert np.array_equal(run("none", photo), photo)
    assert np.array_equal(run("threshold", photo, a=60)[:, :, 0] == 255, photo.min(axis=2) > 60)
    assert run("tile_resample", photo, a=2).shape == (32, 48, 3)
    assert run("color", photo, 256).shape == (256, 256, 3)
    assert len(np.unique(run("color", photo, 256).reshape(-1, 3), axis=0)) == 16
    assert set(np.unique(run("scribble", photo))) == {0, 255}
    assert set(np.unique(run("binary", photo))) == {0, 255}
    grey = run("recolor_intensity", photo, a=1)
    assert np.array_equal(grey[:, :, 0], photo.max(axis=2))


def test_shuffle_repeats_with_its_seed(photo: np.ndarray) -> None:
    first, again, other = (run("shuffle", photo, seed=seed) for seed in (5, 5, 6))
    assert first.shape == (512, 768, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", sorted(n for n, s in SPECS.items() if not s.name.startswith(("clip", "revision"))))
def test_every_module_gives_a_map_or_says_what_it_lacks(photo: np.ndarray, name: str, tmp_path: Any) -> None:
    paths = SimpleNamespace(data=tmp_path, models=lambda kind: [tmp_path / kind])
    context = SimpleNamespace(options={}, device="cpu", check=lambda: None, services=SimpleNamespace(paths=paths))
    source = np.concatenate([photo, photo[:, :, :1]], axis=2) if SPECS[name].needs_mask else photo
    slider = [s[3] for s in SPECS[name].sliders] + [0.5, 0.5]
    params = {"resolution": 64, "threshold_a": slider[0], "threshold_b": slider[1]}
    try:
        result = SPECS[name].run(source, params, context)
    except NotConfigured as error:
        told = error
    else:
        assert result.dtype == np.uint8
        assert result.ndim == 3
        return
    assert name in told.detail
    assert told.hint


@pytest.mark.parametrize(
    ("mode", "touched"), [(ResizeMode.STRETCH, True), (ResizeMode.CROP, True), (ResizeMode.FILL, False)]
)
def test_fitting_gives_the_size_asked_for(photo: np.ndarray, mode: ResizeMode, touched: bool) -> None:
    fitted = fit_map(photo, mode, 64, 64)
    assert fitted.shape == (64, 64, 3)
    border = np.median(np.concatenate([photo[0], photo[-1], photo[:, 0], photo[:, -1]]), axis=0).astype(np.uint8)
    assert np.array_equal(fitted[0, 0], border) is not touched


def test_labels_keep_their_colours_and_edges_stay_binary() -> None:
    labels = np.zeros((40, 40, 3), np.uint8)
    labels[:20], labels[20:, 20:] = (200, 10, 30), (5, 80, 250)
    grown = fit_map(labels, ResizeMode.STRETCH, 96, 96)
    assert len(np.unique(grown.reshape(-1, 3), axis=0)) == 3
    edges = np.zeros((40, 40, 3), np.uint8)
    edges[np.arange(40), np.arange(40)] = 255
    thin = fit_map(edges, ResizeMode.STRETCH, 120, 120)
    assert set(np.unique(thin)) == {0, 255}
    assert (thin[:, :, 0] > 0).sum(axis=1).max() <= 2


def test_inpainting_masks_stay_masks(photo: np.ndarray) -> None:
    source = np.concatenate([photo, np.full((64, 96, 1), 100, np.uint8)], axis=2)
    source[:, 48:, 3] = 200
    fitted = fit_map(source, ResizeMode.FILL, 128, 128, keep_mask=True)
    assert fitted.shape == (128, 128, 4)
    assert set(np.unique(fitted[:, :, 3])) == {0, 255}
    assert (fitted[0, :, 3] == 255).all()
    assert set(np.unique(as_shown(fitted)[:, :, 3])) == {128, 255}
    assert as_shown(fitted).dtype == np.uint8


def test_narrow_pictures_do_not_fill_the_memory() -> None:
    sliver = np.zeros((1, 5000, 3), np.uint8)
    with pytest.raises(TooLarge):
        run("canny", sliver, 2048, 1, 2)
    with pytest.raises(TooLarge):
        fit_map(sliver, ResizeMode.CROP, 1024, 1024)


def test_pixel_perfect_and_seeds(photo: np.ndarray) -> None:
    assert pixel_perfect(photo, ResizeMode.CROP, (128, 128)) == 128
    assert pixel_perfect(photo, ResizeMode.FILL, (128, 128)) == 85
    plan = SimpleNamespace(request=SimpleNamespace(seed=-1, subseed=-1), seeds=(21,))
    assert map_seed(plan) == 42
    plan = SimpleNamespace(request=SimpleNamespace(seed=2**32 - 1, subseed=-5), seeds=(21,))
    assert map_seed(plan) == 2**32 - 1
