"""``resize_mode`` 3, which stretches the latent: with masks, and with models that take the picture beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.e2e.calls import BASE, as_text, draw
from tests.reference_server import ReferenceServer

SIZE = (64, 96)


def picture(size: tuple[int, int]) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))


def mask(size: tuple[int, int]) -> Image.Image:
    """The left half is painted anew."""
    drawn = Image.new("L", size)
    drawn.paste(255, (0, 0, size[0] // 2, size[1]))
    return drawn


@pytest.mark.parametrize("fill", range(4))
@pytest.mark.parametrize(("init", "masked"), [((100, 72), (100, 72)), ((64, 96), (30, 20)), ((48, 48), (200, 20))])
def test_a_mask_over_the_whole_picture(
    live: ReferenceServer, init: tuple[int, int], masked: tuple[int, int], fill: int
) -> None:
    fields: dict[str, Any] = {"resize_mode": 3, "inpaint_full_res": False, "inpainting_fill": fill, "mask_blur": 0}
    sent = {"init_images": [as_text(picture(init))], "mask": as_text(mask(masked)), "denoising_strength": 0.9}
    drawn = draw(live, **fields, **sent, width=SIZE[0], height=SIZE[1]).image
    assert drawn.size == SIZE
    change = np.abs(np.asarray(drawn, dtype=int) - np.asarray(picture(init).resize(SIZE, Image.Resampling.LANCZOS)))
    assert change[:, 36:].max() <= 3
    assert change[:, :28].mean() > 4


@pytest.mark.parametrize("full_res", [False, True])
@pytest.mark.parametrize("size", [(32, 20), (64, 96)])
def test_a_latent_mask_of_another_size(live: ReferenceServer, size: tuple[int, int], full_res: bool) -> None:
    init = as_text(picture(SIZE))
    sent = {"init_images": [init], "mask": as_text(mask(SIZE)), "latent_mask": as_text(mask(size)), "mask_blur": 0}
    drawn = draw(live, **sent, inpaint_full_res=full_res, width=SIZE[0], height=SIZE[1])
    assert drawn.image.size == SIZE


@pytest.mark.parametrize("masked", [False, True])
def test_an_inpainting_model(live: ReferenceServer, masked: bool) -> None:
    sent: dict[str, Any] = {"init_images": [as_text(picture((100, 72)))], "resize_mode": 3}
    if masked:
        sent |= {"mask": as_text(mask((50, 36))), "inpaint_full_res": False}
    drawn = draw(live, {"sd_model_checkpoint": "tiny-inpainting"}, **sent, width=SIZE[0], height=SIZE[1])
    assert drawn.image.size == SIZE


def test_pictures_of_several_sizes_are_refused(live: ReferenceServer) -> None:
    sent = {"init_images": [as_text(picture(size)) for size in ((64, 64), (48, 48))], "batch_size": 2}
    status, reply = live.call("POST", "/sdapi/v1/img2img", BASE | sent | {"resize_mode": 3})
    assert (status, reply["detail"]) == (422, "with resize_mode 3 all init_images must have one size")
    assert live.call("POST", "/sdapi/v1/img2img", BASE | sent)[0] == 200
