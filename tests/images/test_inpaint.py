from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latentd.images.fill import fill_masked
from latentd.images.inpaint import apply_overlay, crop_to_box, layout_mask, mask_composite, overlay_of, uncrop
from latentd.images.masks import latent_mask, mask_from_image, prepare_mask
from latentd.images.region import Box, expand_box, masked_box
from latentd.images.transparency import flatten


def square_mask(size: tuple[int, int] = (64, 48), box: tuple[int, int, int, int] = (20, 10, 40, 22)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def test_alpha_is_the_mask_only_where_something_is_transparent() -> None:
    opaque = Image.new("RGBA", (2, 1), (200, 200, 200, 255))
    assert mask_from_image(opaque).getpixel((0, 0)) == 200
    partial = opaque.copy()
    partial.putpixel((1, 0), (9, 9, 9, 129))
    assert list(np.asarray(mask_from_image(partial)).ravel()) == [255, 255]
    partial.putpixel((1, 0), (9, 9, 9, 128))
    assert list(np.asarray(mask_from_image(partial)).ravel()) == [255, 0]
    assert list(np.asarray(mask_from_image(partial, round_mask=False)).ravel()) == [255, 128]


def test_inversion_comes_before_blur() -> None:
    mask = prepare_mask(square_mask(), invert=True, blur_x=2, blur_y=2)
    assert mask.getpixel((30, 16)) == 0
    assert mask.getpixel((0, 0)) == 255
    assert 0 < mask.getpixel((20, 16)) < 255  # type: ignore[operator]


def test_bounding_box_with_padding_stays_inside() -> None:
    assert masked_box(square_mask()) == Box(20, 10, 40, 22)
    assert masked_box(square_mask(), 16) == Box(4, 0, 56, 38)
    assert masked_box(Image.new("L", (8, 8))) is None


@pytest.mark.parametrize(
    ("box", "size", "within", "expected"),
    [
        (Box(20, 10, 40, 22), (64, 64), (64, 48), Box(20, 6, 40, 26)),
        (Box(20, 0, 40, 12), (64, 64), (64, 48), Box(20, 0, 40, 20)),
        (Box(20, 40, 40, 48), (64, 64), (64, 48), Box(20, 28, 40, 48)),
        (Box(0, 0, 64, 20), (64, 64), (64, 48), Box(0, 0, 64, 48)),
        (Box(10, 10, 20, 40), (128, 64), (64, 48), Box(0, 10, 60, 40)),
        (Box(10, 10, 21, 20), (64, 64), (64, 48), Box(10, 10, 21, 21)),
    ],
)
def test_boxes_grow_to_the_aspect_and_shift_inside(
    box: Box, size: tuple[int, int], within: tuple[int, int], expected: Box
) -> None:
    assert expand_box(box, *size, within) == expected


def test_latent_mask_rounds_half_to_even_where_asked() -> None:
    mask = Image.new("L", (16, 16), 127)
    assert set(latent_mask(mask, 2, 2).ravel()) == {0.0}
    soft = latent_mask(mask, 2, 2, round_mask=False)
    np.testing.assert_allclose(soft, 127 / 255)
    assert soft.dtype == np.float32
    assert soft.shape == (2, 2)


def test_whole_picture_layout_doubles_the_overlay_mask() -> None:
    layout = layout_mask(Image.new("L", (10, 10), 100), width=20, height=20, only_masked=False)
    assert layout is not None
    assert layout.box is None
    assert layout.working.size == (20, 20)
    assert layout.working.getpixel((5, 5)) == 100
    assert layout.overlay.getpixel((5, 5)) == 200


def test_only_masked_layout_of_a_black_mask_is_none() -> None:
    assert layout_mask(Image.new("L", (10, 10)), width=8, height=8, only_masked=True) is None


def test_only_masked_round_trip_leaves_the_rest_untouched() -> None:
    rng = np.random.default_rng(0)
    original = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    layout = layout_mask(square_mask(), width=64, height=64, only_masked=True, padding=2)
    assert layout is not None
    assert layout.box is not None
    assert layout.working.size == (64, 64)
    assert crop_to_box(original, layout.box, 64, 64).size == (64, 64)
    overlay = overlay_of(original, layout.overlay)
    finished, before = apply_overlay(Image.new("RGB", (64, 64), "red"), overlay, layout.box)
    assert finished.size == original.size
    assert finished.mode == "RGB"
    got, want = np.asarray(finished), np.asarray(original)
    masked = np.asarray(square_mask()) > 0
    np.testing.assert_array_equal(got[~masked], want[~masked])
    assert (got[masked] == [255, 0, 0]).all()
    composite = np.asarray(mask_composite(before, layout.overlay))
    assert (composite[masked] == [255, 0, 0, 255]).all()
    assert (composite[~masked][:, 3] == 0).all()


def test_without_a_box_the_picture_is_not_resized() -> None:
    overlay = overlay_of(Image.new("RGB", (16, 16), "blue"), Image.new("L", (16, 16)))
    finished, before = apply_overlay(Image.new("RGB", (16, 16), "red"), overlay, None)
    assert finished.getpixel((3, 3)) == (0, 0, 255)
    assert before.getpixel((3, 3)) == (255, 0, 0)


def test_uncrop_is_transparent_around_the_box() -> None:
    placed = uncrop(Image.new("RGB", (8, 8), "red"), (20, 20), Box(4, 4, 12, 12))
    assert placed.getpixel((0, 0)) == (0, 0, 0, 0)
    assert placed.getpixel((5, 5)) == (255, 0, 0, 255)


def test_fill_keeps_the_surroundings_and_colours_the_hole_from_them() -> None:
    image = Image.new("RGB", (64, 64), (10, 200, 30))
    image.paste((255, 0, 255), (24, 24, 40, 40))
    filled = np.asarray(fill_masked(image, square_mask((64, 64), (24, 24, 40, 40)))).astype(int)
    assert np.abs(filled[:20, :20] - [10, 200, 30]).max() <= 2
    assert np.abs(filled[32, 32] - [10, 200, 30]).max() <= 12


def test_flatten_puts_transparency_on_the_background() -> None:
    image = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert flatten(image, "#00ff00").getpixel((0, 0)) == (0, 255, 0)
    assert flatten(Image.new("L", (1, 1), 7)).getpixel((0, 0)) == (7, 7, 7)
