"""The parts of a picture that are redrawn one by one: tiles, and bands and tiles along their seams. No torch.

A part is redrawn as "only masked" inpainting does it: the masked pixels with some padding around them are enlarged to
the working size, redrawn, and laid back where the mask is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from latentd.api import Box, expand_box, masked_box, prepare_mask
from latentd_scripts.ultimate.arguments import Redraw, SeamsFix, UltimateUpscaleArgs

Size = tuple[int, int]
_MULTIPLE = 64  # of the working size of tiles
_CELL = 8  # pixels of a cell of the latent


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One part.

    :param shape: its mask in mode L, white where it is redrawn.
    :param left, top: where that lies in the picture.
    :param working: width and height at which it is redrawn.
    :param blur: sigma in pixels by which the mask is blurred.
    :param padding: pixels around the mask that are redrawn with it for context.
    """

    shape: Image.Image
    left: int
    top: int
    working: Size
    blur: int
    padding: int

    def mask(self, size: Size, region: Box) -> Image.Image:
        """The blurred mask of ``region`` of a picture of this size.

        Blurring the region alone would be another thing: what is blurred is mirrored at its edges.
        """
        near, left, top = self._near(size)
        mask = Image.new("L", (region.width, region.height))
        mask.paste(near, (left - region.left, top - region.top))
        return mask

    def region(self, size: Size) -> Box | None:
        """The region of a picture of this size that takes part, as inpainting finds it; None if nothing is masked."""
        near, left, top = self._near(size)
        lit = masked_box(near)
        if lit is None:
            return None
        padded = Box(
            max(lit.left + left - self.padding, 0),
            max(lit.top + top - self.padding, 0),
            min(lit.right + left + self.padding, size[0]),
            min(lit.bottom + top + self.padding, size[1]),
        )
        return expand_box(padded, *self.working, size)

    def _near(self, size: Size) -> tuple[Image.Image, int, int]:
        """The blurred mask as far as it may not be black, and where that lies in a picture of this size."""
        # Twice what the blur reaches, for at the edges of this it mirrors.
        reach = 6 * self.blur + 2
        left, top = max(self.left - reach, 0), max(self.top - reach, 0)
        right = max(min(self.left + self.shape.width + reach, size[0]), left + 1)
        bottom = max(min(self.top + self.shape.height + reach, size[1]), top + 1)
        near = Image.new("L", (right - left, bottom - top))
        near.paste(self.shape, (self.left - left, self.top - top))
        return prepare_mask(near, blur_x=self.blur, blur_y=self.blur), left, top


class Grid:
    """The tiles of a picture.

    :param size: the picture's width and height in pixels.
    """

    def __init__(self, size: Size, args: UltimateUpscaleArgs) -> None:
        self._size = size
        self._args = args
        self.tile: Size = (args.tile_width or args.tile_height, args.tile_height or args.tile_width)

    @property
    def columns(self) -> int:
        """How many tiles lie side by side."""
        return math.ceil(self._size[0] / self.tile[0])

    @property
    def rows(self) -> int:
        """How many tiles lie above each other."""
        return math.ceil(self._size[1] / self.tile[1])

    def count(self) -> int:
        """The number of patches of :meth:`tiles` and :meth:`seams`."""
        rows, columns, fix = self.rows, self.columns, self._args.seams_fix_type
        tiles = 0 if self._args.redraw_mode == Redraw.NONE else rows * columns
        if fix == SeamsFix.BAND_PASS:
            return tiles + rows + columns - 2
        halves = rows * (columns - 1) + (rows - 1) * columns if fix != SeamsFix.NONE else 0
        corners = (rows - 1) * (columns - 1) if fix == SeamsFix.HALF_TILE_AND_INTERSECTIONS else 0
        return tiles + halves + corners

    def tiles(self) -> list[Patch]:
        """The tiles in the order in which they are redrawn: row by row, or first the white squares of a chess board."""
        args, (width, height) = self._args, self.tile
        if args.redraw_mode == Redraw.NONE:
            return []
        places = [(column, row) for row in range(self.rows) for column in range(self.columns)]
        if args.redraw_mode == Redraw.CHESS:
            places.sort(key=lambda place: (place[0] + place[1]) % 2)
        # As in the original, a tile's mask takes in the first pixels of the next one.
        shape = Image.new("L", (width + 1, height + 1), "white")
        working = _rounded(width + args.padding, _MULTIPLE), _rounded(height + args.padding, _MULTIPLE)
        return [
            Patch(shape=shape, left=column * width, top=row * height, working=working, blur=args.mask_blur,
                  padding=args.padding)
            for column, row in places
        ]  # fmt: skip

    def seams(self) -> list[Patch]:
        """What is redrawn along the seams, in order."""
        fix = self._args.seams_fix_type
        if fix == SeamsFix.NONE:
            return []
        if fix == SeamsFix.BAND_PASS:
            return self._bands()
        corners = self._intersections() if fix == SeamsFix.HALF_TILE_AND_INTERSECTIONS else []
        return [*self._halves(), *corners]

    def _bands(self) -> list[Patch]:
        """Bands of the whole height or width that are whitest on the seam."""
        args, (width, height), breadth = self._args, self._size, self._args.seams_fix_width
        across = breadth + 2 * args.seams_fix_padding
        upright, level = _ridge((height, breadth)).transpose(Image.Transpose.ROTATE_90), _ridge((width, breadth))
        return [
            *(
                self._patch(upright, column * self.tile[0] - breadth // 2, 0, (across, height), blur=0)
                for column in range(1, self.columns)
            ),
            *(
                self._patch(level, 0, row * self.tile[1] - breadth // 2, (width, across), blur=0)
                for row in range(1, self.rows)
            ),
        ]

    def _halves(self) -> list[Patch]:
        """Tiles moved by half a tile that are whitest on the seam: first those on level seams, then on upright ones."""
        width, height = self.tile
        blur = self._args.seams_fix_mask_blur
        level, upright = _ridge((width, height)), _ridge((height, width)).transpose(Image.Transpose.ROTATE_90)
        return [
            *(
                self._patch(level, column * width, row * height + height // 2, self.tile, blur=blur)
                for row in range(self.rows - 1)
                for column in range(self.columns)
            ),
            *(
                self._patch(upright, column * width + width // 2, row * height, self.tile, blur=blur)
                for row in range(self.rows)
                for column in range(self.columns - 1)
            ),
        ]

    def _intersections(self) -> list[Patch]:
        """Tiles around the corners of four tiles, whitest there."""
        width, height = self.tile
        shape = ImageOps.invert(Image.radial_gradient("L").resize(self.tile, Image.Resampling.BICUBIC))
        return [
            Patch(shape=shape, left=column * width + width // 2, top=row * height + height // 2, padding=0,
                  working=_in_cells(self.tile), blur=self._args.seams_fix_mask_blur)
            for row in range(self.rows - 1)
            for column in range(self.columns - 1)
        ]  # fmt: skip

    def _patch(self, shape: Image.Image, left: int, top: int, working: Size, *, blur: int) -> Patch:
        padding = self._args.seams_fix_padding
        return Patch(shape=shape, left=left, top=top, working=_in_cells(working), blur=blur, padding=padding)


def enlargements(factor: int) -> Sequence[int]:
    """The factors, 4, 3 or 2 each, by which a picture is enlarged one after another to reach at least ``factor``.

    Of those that are a product of such factors the next larger one is reached.
    """
    if factor <= 1:
        return ()
    while True:
        factors, left = [], factor
        while left > 1 and (step := next((step for step in (4, 3, 2) if left % step == 0), 0)):
            factors.append(step)
            left //= step
        if left == 1:
            return factors
        factor += 1


def _ridge(size: Size) -> Image.Image:
    """A mask that is white along its horizontal middle and falls off to black at the top and the bottom."""
    width, height = size
    slope = Image.linear_gradient("L").resize((width, max(height // 2, 1)), Image.Resampling.BICUBIC)
    mask = Image.new("L", size)
    mask.paste(slope, (0, 0))
    mask.paste(ImageOps.flip(slope), (0, height // 2))
    return mask


def _rounded(length: int, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple


def _in_cells(size: Size) -> Size:
    """``size`` rounded up to whole cells of the latent."""
    return _rounded(size[0], _CELL), _rounded(size[1], _CELL)
