"""Fitting a control map to the picture's size, as the original does it for edges, labels and masks.

Rules: a1111-controlnet-fitting.
"""

from __future__ import annotations

import numpy as np

from latentd_controlnet.enums import ResizeMode
from latentd_controlnet.preprocessors.pixels import Array, Pixels, as_rgb, check_size, grey_to_rgb, round_half_even
from latentd_controlnet.thinning import suppress_non_maxima, thin

#: A map of at most this many colours consists of labels, which must not be blended.
MOST_LABELS = 200


def fit_map(image: Pixels, mode: ResizeMode, height: int, width: int, *, keep_mask: bool = False) -> Pixels:
    """``image`` [h,w,3|4] at ``height`` x ``width``.

    :param keep_mask: whether the fourth channel is an inpainting mask. The result is then float32 and may exceed the
        range from 0 to 255. Otherwise the channel is transparency, and the picture is laid on white.
    """
    is_masked = keep_mask and image.ndim == 3 and image.shape[2] == 4
    source: Array = image.astype(np.float32) if is_masked else as_rgb(image)
    if mode == ResizeMode.STRETCH:
        return np.ascontiguousarray(_resized(source, width, height))
    old_height, old_width = (float(side) for side in source.shape[:2])
    factors = height / old_height, width / old_width
    factor = min(factors) if mode == ResizeMode.FILL else max(factors)
    new_width, new_height = (max(round_half_even(side * factor), 1) for side in (old_width, old_height))
    check_size(new_width, new_height)
    scaled = _resized(source, new_width, new_height)
    if mode == ResizeMode.FILL:
        return _on_border_colour(scaled, source, height, width)
    top, left = (max(0, (new - side) // 2) for new, side in ((new_height, height), (new_width, width)))
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def _on_border_colour(scaled: Pixels, source: Pixels, height: int, width: int) -> Pixels:
    """``scaled`` centred on the median colour of the source's border; an inpainting mask is set around it."""
    border = np.concatenate([source[0], source[-1], source[:, 0], source[:, -1]], axis=0)
    colour = np.median(border, axis=0).astype(source.dtype)
    if len(colour) == 4:
        colour[3] = 255
    canvas = np.tile(colour[None, None], [height, width, 1])
    scaled = scaled[:height, :width]
    new_height, new_width = scaled.shape[:2]
    top, left = max(0, (height - new_height) // 2), max(0, (width - new_width) // 2)
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    mask = None
    if image.shape[2] == 4:
        image, mask = image[:, :, :3], image[:, :, 3]
    if image.shape[:2] != (height, width):
        image, mask = _scaled(np.ascontiguousarray(image), mask, width, height)
    if mask is None:
        return image
    cut = np.where(mask > 127, 255, 0).astype(image.dtype)
    return np.concatenate([image, cut[:, :, None]], axis=2)


def _scaled(image: Pixels, mask: Array | None, width: int, height: int) -> tuple[Array, Array | None]:
    import cv2

    new_area, old_area = width * height, image.shape[0] * image.shape[1]
    colours = len(np.unique(image.reshape(-1, 3), axis=0))
    blended = cv2.INTER_AREA if new_area < old_area else cv2.INTER_CUBIC
    how = cv2.INTER_NEAREST if 2 < colours < MOST_LABELS else blended
    result: Array = cv2.resize(image, (width, height), interpolation=how)
    if mask is not None:
        mask = cv2.resize(np.ascontiguousarray(mask), (width, height), interpolation=how)
    if colours == 2 and image.min() < 16 and image.max() > 240:
        result = _binary(image, result, grows=new_area > old_area)
    return result, mask


def _binary(image: Pixels, scaled: Array, *, grows: bool) -> Pixels:
    """A scaled map of two levels, reduced to two levels again; lines of one pixel stay one pixel wide."""
    import cv2

    opened = cv2.dilate(cv2.erode(image, np.ones((3, 3), np.uint8)), np.ones((3, 3), np.uint8))
    thin_share = np.count_nonzero(opened < image) * 2 > np.count_nonzero(image > 127)
    grey = np.mean(scaled.astype(np.float32), axis=2).clip(0, 255).astype(np.uint8)
    if thin_share:
        grey = suppress_non_maxima(grey)
    _, grey = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return grey_to_rgb(thin(grey, prune=grows) if thin_share else grey)
