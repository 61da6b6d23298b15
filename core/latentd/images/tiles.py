"""Working on a picture in overlapping tiles whose seams are blended (rules: a1111-extras)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Where the tiles of a picture lie.

    :param columns: left edges in pixels; negative if the picture is narrower than a tile.
    :param rows: top edges in pixels; negative if the picture is lower than a tile.
    :param tile: width and height of a tile.
    :param size: width and height of the whole picture.
    :param overlap: width of a blended seam.
    """

    columns: tuple[int, ...]
    rows: tuple[int, ...]
    tile: tuple[int, int]
    size: tuple[int, int]
    overlap: int

    def scaled(self, factor: int) -> Tiling:
        """The tiling of the picture enlarged by ``factor``."""
        return Tiling(
            columns=tuple(x * factor for x in self.columns),
            rows=tuple(y * factor for y in self.rows),
            tile=(self.tile[0] * factor, self.tile[1] * factor),
            size=(self.size[0] * factor, self.size[1] * factor),
            overlap=self.overlap * factor,
        )


def plan_tiles(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Tiling:
    """Tiles of one size, evenly spread over ``size``, that overlap by at least about ``overlap`` pixels.

    The last tile ends where the picture ends.

    :raises ValueError: the overlap is not smaller than the tile.
    """
    if not 0 <= overlap < min(tile):
        raise ValueError(f"overlap {overlap} does not fit tiles of {tile[0]}x{tile[1]}")
    columns, rows = (_edges(length, side, overlap) for length, side in zip(size, tile, strict=True))
    return Tiling(columns=columns, rows=rows, tile=tile, size=size, overlap=overlap)


def _edges(length: int, side: int, overlap: int) -> tuple[int, ...]:
    count = max(math.ceil((length - overlap) / (side - overlap)), 1)
    step = (length - side) / (count - 1) if count > 1 else 0
    starts = (int(n * step) for n in range(count))
    return tuple(length - side if start + side >= length else start for start in starts)


def cut_tiles(image: Image.Image, tiling: Tiling) -> list[list[Image.Image]]:
    """The tiles, row by row; parts outside the picture are black."""
    width, height = tiling.tile
    return [[image.crop((x, y, x + width, y + height)) for x in tiling.columns] for y in tiling.rows]


def join_tiles(tiles: Sequence[Sequence[Image.Image]], tiling: Tiling) -> Image.Image:
    """The picture in RGB: tiles blended into rows, and rows into the picture, by linear ramps over the overlap."""
    (width, height), overlap = tiling.tile, tiling.overlap
    across, down = _ramp(overlap, height).transpose(Image.Transpose.TRANSPOSE), _ramp(overlap, tiling.size[0])
    joined = Image.new("RGB", tiling.size)
    for y, row in zip(tiling.rows, tiles, strict=True):
        strip = Image.new("RGB", (tiling.size[0], height))
        for x, tile in zip(tiling.columns, row, strict=True):
            if x == 0 or not overlap:
                strip.paste(tile, (x, 0))
                continue
            strip.paste(tile.crop((0, 0, overlap, height)), (x, 0), mask=across)
            strip.paste(tile.crop((overlap, 0, width, height)), (x + overlap, 0))
        if y == 0 or not overlap:
            joined.paste(strip, (0, y))
            continue
        joined.paste(strip.crop((0, 0, strip.width, overlap)), (0, y), mask=down)
        joined.paste(strip.crop((0, overlap, strip.width, height)), (0, y + overlap))
    return joined


def _ramp(overlap: int, length: int) -> Image.Image:
    """A picture in mode L of ``length`` x ``overlap``, from black at the top towards white at the bottom."""
    levels = (np.arange(overlap) * 255 / max(overlap, 1)).astype(np.uint8)
    return Image.fromarray(np.repeat(levels[:, None], length, axis=1)) if overlap else Image.new("L", (length, 1))


def upscale_tiled(
    upscale_tile: Callable[[Image.Image], Image.Image], image: Image.Image, *, tile: int, overlap: int
) -> Image.Image:
    """``image`` enlarged tile by tile, or in one piece if ``tile`` is 0 or less.

    :param upscale_tile: enlarges one tile by a whole factor, the same for all.
    """
    if tile <= 0:
        return upscale_tile(image)
    tiling = plan_tiles(image.size, (tile, tile), overlap)
    enlarged = [[upscale_tile(part) for part in row] for row in cut_tiles(image, tiling)]
    return join_tiles(enlarged, tiling.scaled(enlarged[0][0].width // tile))
