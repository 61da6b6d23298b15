"""Pictures of more than 8 bits a channel, scaled to 8 bits. Pillow's own conversion would clip them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TOPS = (2**8 - 1, 2**16 - 1, 2**31 - 1)


def eight_bits(image: Image.Image) -> Image.Image:
    """``image`` with 8 bits a channel: mode L in place of ``I;16``, ``I`` and ``F``; other modes as they are.

    16 bits are scaled by 255/65535. A file of 32 bits does not say what its white is: the smallest of 1 (floats only),
    255, 65535 and 2^31-1 that no level exceeds is taken. Negative levels and NaN become black. ``info`` is kept.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image)
    deep = image.mode.startswith("I;16") or image.format == "PNG"
    levels = np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=_TOPS[-1], neginf=0.0)
    top = _TOPS[1] if deep else _range_of(levels, floats=image.mode == "F")
    scaled = Image.fromarray(np.rint(np.clip(levels, 0, top) * (255 / top)).astype(np.uint8))
    scaled.info = dict(image.info)
    return scaled


def _range_of(levels: NDArray[np.float64], *, floats: bool) -> int:
    tops = (1, *_TOPS) if floats else _TOPS
    highest = float(levels.max(initial=0))
    return next((top for top in tops if highest <= top), tops[-1])
