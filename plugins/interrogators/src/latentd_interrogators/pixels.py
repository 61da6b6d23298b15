"""Pictures as the input tensors of BLIP and CLIP. This module imports torch, so only the worker uses it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Both were trained on pictures normalised by these means and deviations of R, G and B (OpenAI's CLIP).
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def squashed(image: Image.Image, side: int) -> Tensor:
    """The whole picture, stretched to a square: [1,3,side,side] float32, normalised."""
    return _normalised(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def cropped(image: Image.Image, side: int) -> Tensor:
    """The middle of the picture, its shorter edge scaled to ``side``: [1,3,side,side] float32, normalised."""
    scale = side / min(image.size)
    width, height = (max(side, int(edge * scale)) for edge in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return _normalised(resized.crop((left, top, left + side, top + side)))


def _normalised(image: Image.Image) -> Tensor:
    picture = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
    return ((picture - mean) / deviation).unsqueeze(0)
