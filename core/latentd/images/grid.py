"""Contact sheets: pictures pasted side by side (rules: a1111-saving)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image


def grid_rows(count: int, *, n_rows: int = -1, batch_size: int = 1, prevent_empty_spots: bool = False) -> int:
    """The number of rows for ``count`` pictures, at least 1 and at most ``count``.

    :param n_rows: option ``n_rows``: a fixed number, 0 for one row a batch, -1 for about the square root of ``count``.
    :param prevent_empty_spots: choose the largest divisor of ``count`` up to its square root.
    """
    if n_rows > 0:
        rows = n_rows
    elif n_rows == 0:
        rows = batch_size
    elif prevent_empty_spots:
        rows = next(r for r in range(math.isqrt(max(count, 1)), 0, -1) if count % r == 0)
    else:
        rows = round(math.sqrt(count))
    return max(1, min(rows, count))


def make_grid(images: Sequence[Image.Image], rows: int) -> Image.Image:
    """``images`` in reading order in ``rows`` rows, RGB; cells have the first picture's size, empty ones are black."""
    columns = math.ceil(len(images) / rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height), "black")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
