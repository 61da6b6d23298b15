"""Decoding the pictures of a unit, in all forms that clients send, to RGBA with the mask as alpha."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from latentd.api import InvalidRequest, JsonValue
from latentd_controlnet.preprocessors.pixels import Pixels, as_rgb
from latentd_controlnet.unit import Unit

if TYPE_CHECKING:
    from PIL.Image import Image

Decode = Callable[[str], "Image"]
MAX_IMAGES = 16
#: A mask without levels below the first, or without levels above the second, is ignored.
_DARK, _LIGHT = 5, 250


def unit_pictures(unit: Unit, decode: Decode) -> tuple[Pixels, ...]:
    """The unit's own pictures, each uint8 [h,w,4] with its mask (or zeros) as fourth channel.

    :param decode: turns a text of the request into a picture, within the server's limits.
    :raises InvalidRequest: a picture cannot be decoded, or a mask has another size; the message names the unit.
    """
    try:
        return tuple(_with_mask(image, mask, decode) for image, mask in _pairs(unit.image, unit.mask))
    except InvalidRequest as error:
        raise unit.error(error.detail, hint=error.hint) from error


def _pairs(image: JsonValue, mask: JsonValue) -> list[tuple[JsonValue, JsonValue]]:
    if image is None:
        return []
    if isinstance(image, Mapping):
        return [(image["image"], image.get("mask") or mask)] if image.get("image") else []
    if isinstance(image, Sequence) and not isinstance(image, str | bytes):
        if len(image) > MAX_IMAGES:
            raise InvalidRequest(f"more than {MAX_IMAGES} images")
        if len(image) == 2 and all(item is None or isinstance(item, str) for item in image):
            return [(image[0], image[1] or mask)] if image[0] else []
        return [pair for item in image for pair in _pairs(item, mask)]
    return [(image, mask)]


def _with_mask(image: JsonValue, mask: JsonValue, decode: Decode) -> Pixels:
    colours = as_rgb(_array(image, decode))
    alpha = np.zeros_like(colours[:, :, 0])
    if mask is not None:
        alpha = first_channel(_array(mask, decode))
        if alpha.shape != colours.shape[:2]:
            have, want = alpha.shape[::-1], colours.shape[1::-1]
            raise InvalidRequest(f"the mask is {have[0]}x{have[1]}, its image {want[0]}x{want[1]}")
    return np.concatenate([colours, alpha[:, :, None]], axis=2)


def _array(value: JsonValue, decode: Decode) -> Pixels:
    if isinstance(value, str):
        value = decode(value)
    if not hasattr(value, "convert"):
        raise InvalidRequest(f"an image is base64 text, not {type(value).__name__}")
    mode = value.mode
    if mode not in ("L", "RGB", "RGBA"):
        value = value.convert("RGBA" if mode in ("LA", "PA") or "transparency" in value.info else "RGB")
    return np.asarray(value)


def first_channel(image: Pixels) -> Pixels:
    """The first channel [h,w], from which masks are read."""
    return image if image.ndim == 2 else image[:, :, 0]


def region_mask(unit: Unit, decode: Decode) -> Pixels | None:
    """``effective_region_mask`` as uint8 [h,w], or None."""
    if unit.region is None:
        return None
    try:
        return first_channel(_array(unit.region, decode))
    except InvalidRequest as error:
        raise unit.error(f"effective_region_mask: {error.detail}", hint=error.hint) from error


def without_mask(image: Pixels, unit: Unit, *, ignore_mask: bool) -> Pixels:
    """RGB of ``image`` [h,w,4] for a module that uses no mask.

    A mask that is not uniform is a scribble and replaces the picture, as on the original's page; on the routes of March
    2023 it is also inverted.

    :param ignore_mask: option ``controlnet_ignore_noninpaint_mask``.
    """
    mask = image[:, :, 3]
    flat = bool((mask <= _DARK).all() or (mask >= _LIGHT).all())
    if unit.invert_image:
        dark = np.min(image[:, :, :3], axis=2) < 127
        return as_rgb(np.where(dark, np.uint8(255), np.uint8(0)))
    if ignore_mask or flat:
        return np.ascontiguousarray(image[:, :, :3])
    return as_rgb(255 - mask if unit.style == "seed" else mask)
