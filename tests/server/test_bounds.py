"""What is refused before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest

from latentd.errors import InvalidRequest, TooLarge
from latentd.server.bounds import check_bounds
from latentd.server.schemas.generation import Img2ImgRequest, Txt2ImgRequest
from latentd.settings import Settings


@pytest.mark.parametrize(
    "body",
    [
        {"batch_size": 0},
        {"n_iter": -1},
        {"steps": 0},
        {"s_churn": -1},
        {"cfg_scale": 1e38},
    ],
    ids=str,
)
def test_impossible_numbers_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check_bounds(Txt2ImgRequest(**body), Settings())


@pytest.mark.parametrize(
    "body", [{"mask_blur": 10**9}, {"mask_blur_x": 5000}, {"inpaint_full_res_padding": -1}], ids=str
)
def test_impossible_masks_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check_bounds(Img2ImgRequest(**body), Settings())


@pytest.mark.parametrize(
    "body",
    [
        {"batch_size": 2000},
        {"steps": 100_000},
        {"width": 100_000, "height": 100_000},
        {"firstphase_width": 100_000, "firstphase_height": 100_000},
        {"seed_resize_from_w": 100_000, "seed_resize_from_h": 100_000},
        {"enable_hr": True, "hr_scale": 100},
        {"enable_hr": True, "hr_resize_x": 100_000},
    ],
    ids=str,
)
def test_work_over_the_bounds_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(TooLarge):
        check_bounds(Txt2ImgRequest(**body), Settings())


def test_levels_may_be_anything() -> None:
    check_bounds(Txt2ImgRequest(s_tmax=1e300, s_tmin=0, s_min_uncond=1e9), Settings())
    check_bounds(Img2ImgRequest(mask_blur=64, inpaint_full_res_padding=256), Settings())
