"""Preprocessors without weights, from RGB or RGBA to RGB or RGBA, uint8.

``params`` has ``resolution``, ``threshold_a`` and ``threshold_b``, all within the ranges of the module's sliders, and
may have ``seed``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latentd.api import WorkerContext
from latentd_controlnet.preprocessors.pixels import Array, Params, Pixels, as_rgb, at_resolution, grey_to_rgb

SHUFFLE_SIZE = 512
SHUFFLE_CELL = 256


def identity(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The picture itself, with its mask as fourth channel if it has one."""
    return image


def rgb(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The picture itself without transparency."""
    return as_rgb(image)


def canny(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Edges by Canny, white on black."""
    import cv2

    scaled, cut = at_resolution(image, params["resolution"])
    edges = cv2.Canny(scaled, int(params["threshold_a"]), int(params["threshold_b"]))
    return grey_to_rgb(cut(edges))


def invert(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The negative."""
    return 255 - as_rgb(image)


def blur(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The picture blurred with the standard deviation ``threshold_a``."""
    import cv2

    scaled, cut = at_resolution(image, params["resolution"])
    blurred: Array = cv2.GaussianBlur(cut(scaled), (0, 0), float(params["threshold_a"]))
    return blurred


def scribble_xdog(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Lines where twice the difference of Gaussians (deviations 0.5 and 5) is above ``threshold_a``."""
    import cv2

    scaled, cut = at_resolution(image, params["resolution"])
    values = scaled.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (0, 0), sigma) for sigma in (0.5, 5.0))
    paper = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
    lines = np.zeros_like(scaled)
    lines[2 * (255 - paper) > params["threshold_a"]] = 255
    return cut(lines)


def threshold(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """White where the darkest channel is above ``threshold_a``."""
    scaled, cut = at_resolution(image, params["resolution"])
    result = np.zeros_like(scaled)
    result[np.min(scaled, axis=2) > params["threshold_a"]] = 255
    return cut(result)


def binary(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The threshold of March 2023: dark lines become white; Otsu chooses the level if ``threshold_a`` is 0 or 255."""
    import cv2

    scaled, cut = at_resolution(image, params["resolution"])
    grey = cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY)
    level = float(params["threshold_a"])
    automatic = level in (0, 255)
    how = cv2.THRESH_BINARY_INV + (cv2.THRESH_OTSU if automatic else 0)
    _, result = cv2.threshold(grey, 0 if automatic else level, 255, how)
    return grey_to_rgb(cut(result))


def scribble(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The scribble of March 2023: white where the darkest channel is below 127."""
    scaled, cut = at_resolution(image, params["resolution"])
    return grey_to_rgb(cut(np.where(np.min(scaled, axis=2) < 127, np.uint8(255), np.uint8(0))))


def tile_resample(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The picture made smaller by ``threshold_a``."""
    import cv2

    source = as_rgb(image)
    factor = float(params["threshold_a"])
    if factor < 1.1:
        return source
    height, width = source.shape[:2]
    size = max(int(width / factor), 1), max(int(height / factor), 1)
    smaller: Array = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    return smaller


def colour_grid(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """A mosaic with cells of 64 pixels."""
    import cv2

    resolution = int(params["resolution"])
    cells = max(resolution // 64, 1)
    small: Array = cv2.resize(as_rgb(image), (cells, cells), interpolation=cv2.INTER_CUBIC)
    mosaic: Array = cv2.resize(small, (resolution, resolution), interpolation=cv2.INTER_NEAREST)
    return mosaic


def lineart_standard(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Dark lines on light paper as white on black."""
    scaled, cut = at_resolution(image, params["resolution"])
    return grey_to_rgb(cut(standard_lines(scaled)))


def standard_lines(image: Pixels) -> Pixels:
    """How much darker ``image`` is than its surroundings (deviation 6), [h,w]."""
    import cv2

    values = image.astype(np.float32)
    ink = np.min(cv2.GaussianBlur(values, (0, 0), 6.0) - values, axis=2).clip(0, 255)
    strong = ink[ink > 8]
    ink /= max(16, np.median(strong) if strong.size else 0)
    lines: Pixels = (ink * 127).clip(0, 255).astype(np.uint8)
    return lines


def recolor_luminance(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """CIE L* as grey, to the power ``threshold_a``."""
    import cv2

    return _toned(cv2.cvtColor(as_rgb(image), cv2.COLOR_BGR2LAB)[:, :, 0], params)


def recolor_intensity(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The brightest channel as grey, to the power ``threshold_a``."""
    import cv2

    return _toned(cv2.cvtColor(as_rgb(image), cv2.COLOR_BGR2HSV)[:, :, 2], params)


def _toned(grey: Array, params: Params) -> Pixels:
    toned = (grey.astype(np.float32) / 255.0) ** float(params["threshold_a"])
    return grey_to_rgb((toned * 255.0).clip(0, 255).astype(np.uint8))


def shuffle(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """The picture distorted by a smooth random flow; ``params["seed"]`` makes it repeatable."""
    import cv2

    scaled, cut = at_resolution(image, SHUFFLE_SIZE)
    source = cut(scaled)
    height, width = source.shape[:2]
    random = np.random.RandomState(params.get("seed"))
    columns = _smooth_noise(random, height, width) * float(width - 1)
    rows = _smooth_noise(random, height, width) * float(height - 1)
    flow = np.stack([columns, rows], axis=2).astype(np.float32)
    still: Any = None  # the second map of another form of the call, which its types ask for in this one, too
    distorted: Array = cv2.remap(source, flow, still, cv2.INTER_LINEAR)
    return distorted


def _smooth_noise(random: np.random.RandomState, height: int, width: int) -> Array:
    """Noise [height,width] between 0 and 1 that changes over ``SHUFFLE_CELL`` pixels."""
    import cv2

    cell = SHUFFLE_CELL
    coarse = random.uniform(low=0, high=1, size=(height // cell + 2, width // cell + 2, 1))
    smooth: Array = cv2.resize(coarse, (width + 2 * cell, height + 2 * cell), interpolation=cv2.INTER_CUBIC)
    smooth = smooth[cell : cell + height, cell : cell + width]
    smooth -= np.min(smooth)
    smooth /= np.max(smooth)
    return smooth
