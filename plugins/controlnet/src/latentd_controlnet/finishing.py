"""Changes that some modules make to finished pictures: recolour, and the unmasked part under inpaint_only.

Rules: a1111-controlnet-kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from latentd.api import Generation
from latentd_controlnet.maps import UnitMaps
from latentd_controlnet.prepared import PreparedUnit
from latentd_controlnet.preprocessors.pixels import Array, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

Finish = Callable[["Image"], "Image"]


def finish_of(prepared: PreparedUnit, maps: UnitMaps, generation: Generation) -> Finish | None:
    """The function that this unit applies to every picture of the job, or None."""
    final = maps.fitted.get("hires", maps.fitted.get("base"))
    if final is None:
        return None
    if prepared.module.name == "recolor_luminance":
        return lambda image: recolour(image, final, "LAB")
    if prepared.module.name == "recolor_intensity":
        return lambda image: recolour(image, final, "HSV")
    if prepared.module.name.startswith("inpaint_only") and final.shape[2] == 4:
        sigma = int(generation.options["control_net_inpaint_blur_sigma"])
        return lambda image: keep_unmasked(image, final, sigma)
    return None


def recolour(image: Image, grey: Pixels, space: str) -> Image:
    """``image`` with the lightness (L of LAB) or value (V of HSV) of ``grey`` [H,W,3]."""
    import cv2
    from PIL import Image as Images

    forth, back, channel = {
        "LAB": (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB, 0),
        "HSV": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2),
    }[space]
    pixels = _at_size(grey, image.size)[:, :, 0]
    values = cv2.cvtColor(np.asarray(image.convert("RGB")), forth)
    values[:, :, channel] = pixels
    return Images.fromarray(cv2.cvtColor(values, back))


def keep_unmasked(image: Image, source: Pixels, sigma: int) -> Image:
    """``image`` where the fourth channel of ``source`` is set, ``source`` elsewhere, with a blurred border."""
    import cv2
    from PIL import Image as Images

    pixels = _at_size(source, image.size)
    mask: Array = pixels[:, :, 3].astype(np.float32) / 255.0
    if sigma > 0:
        mask = cv2.blur(cv2.dilate(mask, np.ones((sigma, sigma), np.uint8)), (sigma, sigma))
    share = mask[:, :, None]
    own, original = np.asarray(image.convert("RGB"), np.float32), pixels[:, :, :3].astype(np.float32)
    mixed = share * own + (1 - share) * original
    return Images.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _at_size(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    import cv2

    if pixels.shape[1::-1] == size:
        return pixels
    scaled: Array = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    return scaled
