"""ParseNet, which finds the pixels of an upright face that belong to the face, for the weights that AUTOMATIC1111 uses.

Written from the layout of ``parsing_parsenet.pth`` (facexlib): residual blocks down to a sixteenth of the size, ten
more at that size, and up again to 19 classes.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from latentd_facerestore.layers import Layers

FILE_NAME = "parsing_parsenet.pth"

_LEVELS, _BODY = 4, 10
_NOT_FACE = (0, 14, 16, 17, 18)  # background, neck, clothes, hat and earrings
_BLUR = 11.0
_BORDER = 10


class FaceParser(Layers):
    """The network; its weights have the names of facexlib's file."""

    @torch.inference_mode()
    def mask(self, face: Image.Image) -> Image.Image:
        """A soft mask in mode L of 512x512: white for the face in ``face`` (RGB of 512x512), black at the border."""
        pixels = np.asarray(face, dtype=np.float32).transpose(2, 0, 1)
        device = self._weights["out_mask_conv.conv2d.weight"].device
        classes = self.classes(torch.from_numpy(pixels).div(127.5).sub(1).unsqueeze(0).to(device)).argmax(dim=1)[0]
        is_face = ~torch.isin(classes, torch.tensor(_NOT_FACE, device=device))
        mask = Image.fromarray(is_face.cpu().numpy().astype(np.uint8) * 255)
        soft = mask.filter(ImageFilter.GaussianBlur(_BLUR)).filter(ImageFilter.GaussianBlur(_BLUR))
        bordered = Image.new("L", soft.size)
        inner = (_BORDER, _BORDER, soft.width - _BORDER, soft.height - _BORDER)
        bordered.paste(soft.crop(inner), inner)
        return bordered

    def classes(self, face: Tensor) -> Tensor:
        """Logits [1,19,512,512] of ``face`` [1,3,512,512] in -1..1."""
        values = self._reflected("encoder.0", face)
        for level in range(1, _LEVELS + 1):
            values = self._block(f"encoder.{level}", values, down=True)
        inner = values
        for block in range(_BODY):
            inner = self._block(f"body.{block}", inner)
        values = values + inner
        for level in range(_LEVELS):
            values = self._block(f"decoder.{level}", functional.interpolate(values, scale_factor=2, mode="nearest"))
        return self._reflected("out_mask_conv", values)

    def _block(self, name: str, values: Tensor, *, down: bool = False) -> Tensor:
        stride = 2 if down else 1
        inner = self.normalise(f"{name}.conv1.norm.norm", self._reflected(f"{name}.conv1", values))
        inner = self._reflected(f"{name}.conv2", functional.leaky_relu(inner, 0.2), stride)
        if f"{name}.shortcut_func.conv2d.weight" in self._weights:
            values = self._reflected(f"{name}.shortcut_func", values, stride)
        return values + self.normalise(f"{name}.conv2.norm.norm", inner)

    def _reflected(self, name: str, values: Tensor, stride: int = 1) -> Tensor:
        """The output of a convolution over the values, continued by reflection at the edges."""
        return self.convolve(f"{name}.conv2d", functional.pad(values, (1, 1, 1, 1), mode="reflect"), stride=stride)
