from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latentd.images.resize import LATENT_MODES, resize_image
from latentd.images.upscalers import RESIZERS, paste_centred, upscale_with

BY_NAME = {resizer.name: resizer for resizer in RESIZERS}


def halves() -> Image.Image:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    return image


def test_stretch_is_lanczos_to_the_size() -> None:
    assert resize_image(0, halves(), 30, 30).tobytes() == halves().resize((30, 30), Image.Resampling.LANCZOS).tobytes()


def test_cover_cuts_the_longer_side_evenly() -> None:
    covered = resize_image(1, halves(), 20, 20)
    assert covered.size == (20, 20)
    assert covered.getpixel((1, 10)) == (255, 0, 0)
    assert covered.getpixel((18, 10)) == (0, 0, 255)


def test_contain_smears_the_edges_into_the_gaps() -> None:
    contained = np.asarray(resize_image(2, halves(), 20, 20))
    np.testing.assert_array_equal(contained[0], contained[5])
    np.testing.assert_array_equal(contained[19], contained[14])
    tall = np.asarray(resize_image(2, halves().rotate(90, expand=True), 20, 20))
    np.testing.assert_array_equal(tall[:, 0], tall[:, 5])


def test_extreme_shapes_keep_at_least_a_pixel() -> None:
    for mode in (1, 2):
        assert resize_image(mode, Image.new("RGB", (2000, 1)), 16, 64).size == (16, 64)
    assert RESIZERS[1].upscale(Image.new("RGB", (100, 2)), 2).size == (200, 8)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("size", [(31, 17), (17, 31), (40, 20), (80, 40)])
def test_sizes_are_exact_and_masks_stay_masks(mode: int, size: tuple[int, int]) -> None:
    assert resize_image(mode, halves(), *size).size == size
    mask = resize_image(mode, Image.new("L", (40, 20), 255), *size)
    assert mask.mode == "L"
    assert mask.size == size


def test_the_upscaler_is_asked_only_to_enlarge_and_never_for_masks() -> None:
    asked: list[float] = []

    def upscale(image: Image.Image, scale: float) -> Image.Image:
        asked.append(scale)
        return image.resize((100, 50))

    assert resize_image(0, halves(), 80, 60, upscale=upscale).size == (80, 60)
    resize_image(0, halves(), 30, 20, upscale=upscale)
    resize_image(0, halves().convert("L"), 80, 60, upscale=upscale)
    assert asked == [3.0]


def test_latent_resize_is_no_picture_resize() -> None:
    with pytest.raises(ValueError, match="mode 3"):
        resize_image(3, halves(), 10, 10)
    assert list(LATENT_MODES) == [
        "Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)",
        "Latent (nearest-exact)",
    ]  # fmt: skip


def test_upscaling_rounds_down_to_multiples_of_eight() -> None:
    for resizer in RESIZERS:
        assert resizer.upscale(Image.new("RGB", (64, 50)), 1.7).size == (104, 80)


def test_nearest_repeats_pixels_and_none_is_lanczos() -> None:
    image = halves()
    doubled = np.asarray(BY_NAME["Nearest"].upscale(image, 2))
    np.testing.assert_array_equal(doubled, np.asarray(image).repeat(2, axis=0).repeat(2, axis=1))
    none = BY_NAME["None"].upscale(image, 2)
    assert none.tobytes() == image.resize((80, 40), Image.Resampling.LANCZOS).tobytes()


@pytest.mark.parametrize(
    ("factor", "scale", "runs"), [(2, 2, 1), (2, 3, 2), (2, 8, 3), (2, 30, 3), (4, 1, 0), (1, 2, 1)]
)
def test_models_run_until_the_size_is_reached_three_times_at_most(factor: int, scale: float, runs: int) -> None:
    done: list[int] = []

    def double(image: Image.Image) -> Image.Image:
        done.append(image.width)
        return image.resize((image.width * factor, image.height * factor))

    assert upscale_with(double, Image.new("RGB", (16, 8)), scale).size == (16 * scale, 8 * scale)
    assert len(done) == runs


def test_paste_centred_cuts_and_pads() -> None:
    placed = paste_centred(Image.new("RGB", (10, 4), "red"), 6, 8)
    assert placed.size == (6, 8)
    assert placed.getpixel((0, 0)) == (0, 0, 0)
    assert placed.getpixel((0, 4)) == (255, 0, 0)
