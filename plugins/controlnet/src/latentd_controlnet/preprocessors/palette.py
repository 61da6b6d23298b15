"""Colours of classes in segmentation maps.

Bits of the class number spread over the channels, the palette of the VOC data set: well apart and made by rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latentd_controlnet.preprocessors.pixels import Pixels


def class_colours(classes: Any) -> Pixels:
    """RGB [h,w,3] of class numbers [h,w]; the class 0 is dark red rather than black, so that nothing is missing."""
    numbers = np.asarray(classes).astype(np.int64) + 1
    colours = np.zeros((*numbers.shape, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[..., channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours
