"""Inpainting masks: what to repaint, as 8-bit pictures in mode L (rules: a1111-mask)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentd.images.blur import blur_axis


def mask_from_image(image: Image.Image, *, round_mask: bool = True) -> Image.Image:
    """The mask that a picture is, in mode L: its alpha channel if it is transparent anywhere, else its grey levels.

    :param round_mask: cut the alpha at 128 into 0 and 255.
    """
    if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
        return image.convert("L")
    alpha = image.getchannel("A")
    return alpha.point(lambda level: 255 if level > 128 else 0) if round_mask else alpha


def prepare_mask(
    image: Image.Image, *, round_mask: bool = True, invert: bool = False, blur_x: float = 0, blur_y: float = 0
) -> Image.Image:
    """The request's mask read, inverted and blurred, in that order; white is repainted."""
    mask = mask_from_image(image, round_mask=round_mask)
    if invert:
        mask = ImageOps.invert(mask)
    return blur_mask(mask, blur_x, blur_y)


def blur_mask(mask: Image.Image, blur_x: float, blur_y: float) -> Image.Image:
    """``mask`` blurred with sigma = ``blur_x`` along rows, rounded to 8 bits, then sigma = ``blur_y`` along columns."""
    if blur_x <= 0 and blur_y <= 0:
        return mask
    pixels = np.asarray(mask, dtype=np.uint8)
    for sigma, axis in ((blur_x, 1), (blur_y, 0)):
        if sigma > 0:
            pixels = blur_axis(pixels, sigma=sigma, axis=axis, size=2 * int(2.5 * sigma + 0.5) + 1)
    return Image.fromarray(pixels)


def latent_mask(mask: Image.Image, width: int, height: int, *, round_mask: bool = True) -> NDArray[np.float32]:
    """Share of new content [height, width] in 0..1 at latent resolution (A1111's ``nmask``).

    :param round_mask: round half to even, to 0 and 1.
    """
    small = mask.convert("RGB").resize((width, height))
    share = np.asarray(small, dtype=np.float32)[..., 0] / np.float32(255)
    return np.around(share) if round_mask else share
