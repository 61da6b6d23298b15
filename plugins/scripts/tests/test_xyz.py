"""The X/Y/Z plot: grids, cells, documents, and refusals before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from latentd_scripts.xyz.axes import axes_of

NAME = "x/y/z plot"
OFF = [False, False, False, False, False, False, False, 0, True]


def _args(x: tuple[int, str], y: tuple[int, str] = (0, ""), z: tuple[int, str] = (0, ""), *rest: Any) -> list[Any]:
    return [x[0], x[1], [], y[0], y[1], [], z[0], z[1], [], *(rest or OFF)]


def test_cells_are_the_pictures_of_their_own_requests(draw: Callable[..., Any]) -> None:
    lone = [False, True, False, False, False, False, False, 0, True]
    plot = draw(script_name=NAME, script_args=_args((6, "2,6"), (4, "1,2"), (0, ""), *lone))
    assert plot.sizes == [(128, 128), *[(64, 64)] * 4]
    alone = draw(cfg_scale=6, steps=1).images[0]
    assert np.array_equal(plot.images[2], alone)
    assert np.array_equal(plot.images[0][:64, 64:], alone)
    assert plot.info["index_of_first_image"] == 1
    assert len(plot.info["infotexts"]) == 5
    assert 'Script: X/Y/Z plot, X Type: CFG Scale, X Values: "2,6", Y Type: Steps' in plot.info["infotexts"][0]


def test_three_axes_give_a_row_of_grids(draw: Callable[..., Any]) -> None:
    grids = [False, False, True, False, False, False, False, 0, True]
    plot = draw(script_name=NAME, script_args=_args((1, "1,2"), (0, ""), (6, "2,6"), *grids))
    assert plot.sizes == [(256, 64), (128, 64), (128, 64)]
    assert np.array_equal(plot.images[0], np.concatenate(plot.images[1:], axis=1))


def test_early_arguments_are_told_apart_by_their_number(draw: Callable[..., Any]) -> None:
    early = [4, "1,2", 0, "", 0, "", False, False, False, False, 0]
    late = _args((4, "1,2"))
    plots = [draw(script_name=NAME, script_args=args) for args in (early, late)]
    assert np.array_equal(plots[0].images[0], plots[1].images[0])


def test_seeds_may_vary_along_an_axis(draw: Callable[..., Any]) -> None:
    lone = [False, True, False, False, True, False, False, 0, True]
    plot = draw(script_name=NAME, script_args=_args((6, "4,4"), (0, ""), (0, ""), *lone))
    assert plot.info["all_seeds"] == [7, 8]
    assert not np.array_equal(plot.images[1], plot.images[2])


def test_a_legend_takes_room_on_both_sides(draw: Callable[..., Any]) -> None:
    legend = [True, False, False, False, False, False, False, 4, True]
    (width, height), *_ = draw(script_name=NAME, script_args=_args((1, "1,2"), (6, "3,6"), (0, ""), *legend)).sizes
    assert width == 48 + 64 + 4 + 64
    assert height > 64 + 4 + 64


def test_other_checkpoints_stay_in_their_cells(draw: Callable[..., Any]) -> None:
    plot = draw(script_name=NAME, script_args=_args((11, "two,one")))
    assert np.array_equal(plot.images[0][:, 64:], draw().images[0])
    assert "Model: two" in plot.info["infotexts"][1]


@pytest.mark.parametrize(
    ("args", "status", "word"),
    [
        ([4, "2,3"], 422, "18 arguments"),
        (_args((99, "1")), 422, "no number 99"),
        (_args((9, "Oiler")), 404, "Oiler"),
        (_args((11, "nowhere")), 404, "nowhere"),
        (_args((7, "green,red")), 422, "did not find green"),
        (_args((4, "100000")), 413, "steps"),
        (_args((1, "1-1000"), (6, "1-1000")), 413, "too large"),
        (_args((1, "1-60"), (6, "1-20")), 413, "images are over the limit"),
        (_args((1, f"1-1{'0' * 400}")), 422, "401 digits"),
    ],
)
def test_refusals(send: Callable[..., Any], args: list[Any], status: int, word: str) -> None:
    reply = send("txt2img", script_name=NAME, script_args=args)
    assert reply.status_code == status, reply.text
    assert word in reply.text


def test_axes_stand_in_the_order_of_their_tab() -> None:
    txt2img, img2img = ([axis.label for axis in axes_of(mode)] for mode in ("txt2img", "img2img"))
    assert txt2img[:7] == ["Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "Hires steps", "CFG Scale"]
    assert img2img[22] == "Denoising"
    assert "Image CFG Scale" not in txt2img
    assert "Hires sampler" not in img2img
