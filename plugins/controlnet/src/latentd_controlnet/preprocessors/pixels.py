"""Arrays of pixels: channels, and how preprocessors reach a resolution (rules: a1111-controlnet-resolution)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentd.api import JsonValue, TooLarge

Pixels: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[Any]
"""An array of numbers of any type, as cv2, numpy and networks return them."""
Cut: TypeAlias = Callable[[Array], Array]
"""Removes the padding [h,w,...] from a result."""
Params: TypeAlias = Mapping[str, JsonValue]
"""``resolution``, ``threshold_a``, ``threshold_b``, ``module``, and perhaps ``seed`` or ``poses``."""
#: Most pixels of a map, whatever the proportions of its picture.
MAX_PIXELS = 64_000_000


def as_rgb(image: Array) -> Pixels:
    """``image`` [h,w] or [h,w,1|3|4] as RGB [h,w,3]; a transparent picture is laid on white."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 1:
        return np.asarray(np.repeat(image, 3, axis=2), np.uint8)
    if image.shape[2] == 4:
        alpha = image[:, :, 3:].astype(np.float32) / 255.0
        flat = image[:, :, :3].astype(np.float32) * alpha + 255.0 * (1.0 - alpha)
        return np.asarray(flat.clip(0, 255), np.uint8)
    return np.asarray(image, np.uint8)


def grey_to_rgb(grey: Pixels) -> Pixels:
    """RGB [h,w,3] of a grey map [h,w]."""
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def at_resolution(image: Pixels, resolution: float, *, keep_alpha: bool = False) -> tuple[Pixels, Cut]:
    """``image`` with its short side at ``resolution``, and the function that removes the padding from a result.

    The edges are repeated up to multiples of 64 pixels.
    """
    import cv2

    source = image if keep_alpha else as_rgb(image)
    height, width = source.shape[:2]
    factor = float(resolution) / min(height, width)
    new_height, new_width = (max(round_half_even(side * factor), 1) for side in (height, width))
    check_size(new_width, new_height)
    how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    scaled: Array = cv2.resize(source, (new_width, new_height), interpolation=how)
    padded = np.pad(scaled, [(0, -new_height % 64), (0, -new_width % 64), (0, 0)], mode="edge")
    return np.ascontiguousarray(padded), lambda result: np.ascontiguousarray(result[:new_height, :new_width])


def check_size(width: int, height: int) -> None:
    """Refuse a size that would take too much memory, as a very narrow picture does when its short side is enlarged.

    :raises TooLarge: the size is over the limit.
    """
    if width * height > MAX_PIXELS:
        raise TooLarge(f"a control map of {width}x{height} pixels is over the limit", hint="send a picture less narrow")


def round_half_even(value: float) -> int:
    """``value`` rounded as numpy does it, half to even."""
    return int(np.round(value))
