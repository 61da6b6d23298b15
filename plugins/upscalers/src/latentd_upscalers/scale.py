"""The factor by which a network enlarges, read from the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]


# Convolutions before a single pixel shuffle at the network's end: their channels are those of the picture times the
# square of the factor. (SPAN, OmniSR, DITN and SAFMN, SwinIR's and DAT's light forms.)
_SHUFFLED_ONCE = ("upsampler.0.weight", "up.0.weight", "to_img.0.weight", "upsample.0.weight")


def read_scale(shapes: Shapes) -> int | None:
    """The factor, or None if the layout is unknown."""
    if not shapes:
        return None
    if "m_head.0.weight" in shapes and "m_body.0.trans_block.ln1.weight" in shapes:
        return 1  # ScuNET removes noise and keeps the size
    if "conv_first.weight" in shapes and "conv_last.weight" in shapes:
        return _convolutions(shapes) or _pixel_shuffles(shapes)
    return _old_esrgan(shapes) or _compact(shapes) or _single_shuffle(shapes)


def _convolutions(shapes: Shapes) -> int | None:
    """RRDBNet of BSRGAN and Real-ESRGAN, SwinIR for real pictures: each ``conv_up`` doubles."""
    doublings = sum(1 for key in shapes if re.fullmatch(r"(conv_up|upconv)\d\.weight", key))
    if not doublings:
        return None
    # A network for small factors has an input whose pixels are folded into channels.
    folded = math.isqrt(shapes["conv_first.weight"][1] // shapes["conv_last.weight"][0]) or 1
    return int(max(2**doublings // folded, 1))


def _pixel_shuffles(shapes: Shapes) -> int | None:
    """SwinIR, DAT, HAT: ``upsample.0``, ``upsample.2``... each shuffle its channels into a square of pixels."""
    factors = [
        math.isqrt(shape[0] // shape[1])
        for key, shape in shapes.items()
        if re.fullmatch(r"upsample\.\d+\.weight", key) and len(shape) == 4
    ]
    return math.prod(factors) if factors else None


def _old_esrgan(shapes: Shapes) -> int | None:
    """``model.N``: five layers, and three (one with weights) for each doubling."""
    if "model.0.weight" not in shapes or not any(key.startswith("model.1.sub.") for key in shapes):
        return None
    last = max(int(match[1]) for key in shapes if (match := re.match(r"model\.(\d+)\.", key)))
    folded = math.isqrt(shapes["model.0.weight"][1] // shapes[f"model.{last}.weight"][0]) or 1
    return int(max(2 ** ((last - 4) // 3) // folded, 1))


def _compact(shapes: Shapes) -> int | None:
    """``body.N``: Real-ESRGAN's small networks, which end in one pixel shuffle."""
    numbers = [int(match[1]) for key in shapes if (match := re.fullmatch(r"body\.(\d+)\.weight", key))]
    if "body.0.weight" not in shapes or not numbers:
        return None
    return math.isqrt(shapes[f"body.{max(numbers)}.weight"][0] // shapes["body.0.weight"][1])


def _single_shuffle(shapes: Shapes) -> int | None:
    for key in (*_SHUFFLED_ONCE, _last_feature(shapes)):
        if key in shapes and len(shapes[key]) == 4 and shapes[key][0] % 3 == 0:
            return math.isqrt(shapes[key][0] // 3)
    return None


def _last_feature(shapes: Shapes) -> str:
    """PLKSR and RealPLKSR: the last of ``feats``."""
    numbers = [int(match[1]) for key in shapes if (match := re.fullmatch(r"feats\.(\d+)\.weight", key))]
    return f"feats.{max(numbers)}.weight" if numbers else ""
