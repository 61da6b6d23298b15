from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latentd.images.annotations import Label, LegendStyle, annotate_grid, prompt_matrix_legends
from latentd.images.grid import grid_rows, make_grid


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3), (12, 3), (13, 4)])
def test_rows_are_about_the_square_root(count: int, rows: int) -> None:
    assert grid_rows(count) == rows


def test_rows_can_be_fixed_follow_batches_or_leave_no_gaps() -> None:
    assert grid_rows(4, n_rows=3) == 3
    assert grid_rows(2, n_rows=5) == 2
    assert grid_rows(6, n_rows=0, batch_size=2) == 2
    assert grid_rows(7, prevent_empty_spots=True) == 1
    assert grid_rows(8, prevent_empty_spots=True) == 2


def test_cells_have_the_first_pictures_size_and_gaps_are_black() -> None:
    grid = make_grid([Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")], 2)
    assert grid.size == (16, 12)
    assert grid.getpixel((9, 1)) == (0, 255, 0)
    assert grid.getpixel((1, 7)) == (0, 0, 255)
    assert grid.getpixel((9, 7)) == (0, 0, 0)


def sheet() -> Image.Image:
    return make_grid([Image.new("RGB", (64, 64), c) for c in ("red", "lime", "blue", "yellow")], 2)


def test_legends_take_room_on_top_and_at_the_left() -> None:
    """Sizes as recorded from A1111 for an X/Y plot of four 64x64 cells, margin 4."""
    annotated = annotate_grid(
        sheet(), (64, 64), [[Label("Seed: 1")], [Label("Seed: 2")]],
        [[Label("CFG Scale: 3.0")], [Label("CFG Scale: 6.0")]], margin=4,
    )  # fmt: skip
    assert annotated.size == (180, 140)
    assert annotated.getpixel((50, 20)) == (255, 0, 0)
    assert annotated.getpixel((179, 139)) == (255, 255, 0)
    assert annotated.getpixel((113, 80)) == (255, 255, 255)
    assert np.asarray(annotated.crop((48, 0, 112, 8))).min() < 128


def test_without_texts_only_margins_are_added() -> None:
    annotated = annotate_grid(sheet(), (64, 64), [[Label("")]] * 2, [[Label("")]] * 2, margin=2)
    assert annotated.width == 130


def test_inactive_labels_are_struck_out_in_their_colour() -> None:
    style = LegendStyle(inactive="#ff0000")
    cells = make_grid([Image.new("RGB", (200, 200))] * 2, 1)
    annotated = annotate_grid(cells, (200, 200), [[Label("word")], [Label("word", False)]], [], style=style)
    top = np.asarray(annotated)[: annotated.height - 200].astype(int)
    reddish = (top[..., 0] > 200) & (top[..., 1] < 60)
    assert reddish[:, 200:].any()
    assert not reddish[:, :200].any()


def test_prompt_matrix_parts_switch_by_bit() -> None:
    columns, rows = prompt_matrix_legends(["a", "b", "c"])
    assert [[label.active for label in labels] for labels in columns] == [
        [False, False], [True, False], [False, True], [True, True],
    ]  # fmt: skip
    assert [[(label.text, label.active) for label in labels] for labels in rows] == [[("c", False)], [("c", True)]]


def test_long_labels_wrap() -> None:
    short = annotate_grid(sheet(), (64, 64), [[Label("one")]] * 2, [])
    long = annotate_grid(sheet(), (64, 64), [[Label("one two three four five six seven eight nine ten")]] * 2, [])
    assert long.height > short.height
