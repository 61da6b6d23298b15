from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latentd.images.tiles import cut_tiles, join_tiles, plan_tiles, upscale_tiled


def noise(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_tiles_are_spread_evenly_and_the_last_lies_flush() -> None:
    tiling = plan_tiles((200, 100), (64, 64), 8)
    assert tiling.columns == (0, 45, 90, 136)
    assert tiling.rows == (0, 36)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (200, 100), (129, 333)])
@pytest.mark.parametrize("overlap", [0, 8, 31])
def test_cutting_and_joining_gives_the_picture_back(size: tuple[int, int], overlap: int) -> None:
    image = noise(size)
    tiling = plan_tiles(size, (64, 64), overlap)
    joined = join_tiles(cut_tiles(image, tiling), tiling)
    assert joined.size == size
    assert np.abs(np.asarray(joined).astype(int) - np.asarray(image)).max() <= 1


def test_seams_are_linear_ramps() -> None:
    tiling = plan_tiles((120, 64), (64, 64), 8)
    black, white = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), "white")
    row = np.asarray(join_tiles([[black, white]], tiling))[30, :, 0]
    np.testing.assert_array_equal(row[56:64], np.arange(8) * 255 // 8)
    assert row[55] == 0
    assert row[64] == 255


def test_a_small_picture_is_one_tile_padded_at_top_and_left() -> None:
    image = noise((40, 30))
    tiling = plan_tiles(image.size, (64, 64), 8)
    ((tile,),) = cut_tiles(image, tiling)
    assert tile.size == (64, 64)
    np.testing.assert_array_equal(np.asarray(tile)[34:, 24:], np.asarray(image))
    assert join_tiles([[tile]], tiling).tobytes() == image.tobytes()


def test_tiled_upscaling_equals_upscaling_at_once_for_a_local_upscaler() -> None:
    image = noise((150, 90))

    def double(part: Image.Image) -> Image.Image:
        return part.resize((part.width * 2, part.height * 2), Image.Resampling.NEAREST)

    tiled = upscale_tiled(double, image, tile=64, overlap=8)
    assert np.abs(np.asarray(tiled).astype(int) - np.asarray(double(image))).max() <= 1
    assert upscale_tiled(double, image, tile=0, overlap=8).tobytes() == double(image).tobytes()


def test_an_overlap_that_fills_the_tile_is_an_error() -> None:
    with pytest.raises(ValueError, match="overlap 64"):
        plan_tiles((100, 100), (64, 64), 64)
