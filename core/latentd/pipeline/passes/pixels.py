"""Between tensors and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_picture(pixels: Tensor) -> Image.Image:
    """``pixels`` [3,H,W] in 0 to 1 as RGB; cut to 8 bits rather than rounded, as in AUTOMATIC1111. NaN is black."""
    array = 255.0 * np.nan_to_num(np.moveaxis(pixels.float().cpu().numpy(), 0, 2))
    return Image.fromarray(array.astype(np.uint8))


def to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """RGB pictures of equal size as [B,3,H,W] float32 in 0 to 1."""
    arrays = np.stack([np.asarray(p.convert("RGB"), dtype=np.float32) / 255.0 for p in pictures])
    return torch.from_numpy(np.moveaxis(arrays, 3, 1).copy())
