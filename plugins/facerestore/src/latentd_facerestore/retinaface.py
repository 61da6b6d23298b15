"""Face detection with RetinaFace (Deng et al. 2019) over ResNet-50, for the weights that AUTOMATIC1111 uses.

Written from the layout of ``detection_Resnet50_Final.pth`` (facexlib): a ResNet, a feature pyramid of three levels, a
context module for each level, and heads for class, box and landmarks with two anchors in each cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from latentd_facerestore.faces import Faces, suppress
from latentd_facerestore.layers import Layers

FILE_NAME = "detection_Resnet50_Final.pth"

_BLOCKS = (3, 4, 6, 3)
_MEAN = (104.0, 117.0, 123.0)  # blue, green, red
_STEPS = (8, 16, 32)  # pixels from cell to cell
_ANCHORS = ((16, 32), (64, 128), (256, 512))  # sides of the anchors, in pixels
_VARIANCE = (0.1, 0.2)  # the factors of shifts and sizes in the network's output
_LEAST_SCORE = 0.97
_OVERLAP = 0.4


class RetinaFace(Layers):
    """The detector; its weights have the names of facexlib's file."""

    @torch.inference_mode()
    def detect(self, picture: Tensor, check: Callable[[], None] = lambda: None) -> Faces:
        """The faces in ``picture`` [3,h,w], RGB in 0..255, on the device of the weights."""
        mean = picture.new_tensor(_MEAN)[:, None, None]
        levels = self._pyramid(self._body((picture.flip(0) - mean).unsqueeze(0), check))
        check()
        features = [self._context(f"ssh{number}", level) for number, level in enumerate(levels, start=1)]
        logits, boxes, points = (self._head(name, features, width) for name, width in _HEADS)
        score = logits.softmax(dim=1)[:, 1]
        sure = score > _LEAST_SCORE
        anchors = _anchors([level.shape[-2:] for level in features], picture.device)[sure]
        centre, size = anchors[:, :2], anchors[:, 2:]
        shift, growth = boxes[sure, :2] * _VARIANCE[0], boxes[sure, 2:] * _VARIANCE[1]
        middle, half = centre + shift * size, size * growth.exp() / 2
        found = torch.cat((middle - half, middle + half), dim=1)
        landmarks = centre[:, None] + points[sure].reshape(-1, 5, 2) * _VARIANCE[0] * size[:, None]
        keep = suppress(found, score[sure], _OVERLAP)
        return Faces(boxes=found[keep], scores=score[sure][keep], landmarks=landmarks[keep])

    def _body(self, values: Tensor, check: Callable[[], None]) -> list[Tensor]:
        """Outputs of the ResNet's last three stages."""
        values = self._normalised("body.conv1", "body.bn1", values, stride=2, padding=3).relu()
        values = functional.max_pool2d(values, 3, 2, padding=1)
        stages = []
        for stage, count in enumerate(_BLOCKS, start=1):
            check()
            for block in range(count):
                values = self._bottleneck(f"body.layer{stage}.{block}", values, 2 if stage > 1 and block == 0 else 1)
            stages.append(values)
        return stages[1:]

    def _bottleneck(self, name: str, values: Tensor, stride: int) -> Tensor:
        inner = self._normalised(f"{name}.conv1", f"{name}.bn1", values).relu()
        inner = self._normalised(f"{name}.conv2", f"{name}.bn2", inner, stride=stride, padding=1).relu()
        inner = self._normalised(f"{name}.conv3", f"{name}.bn3", inner)
        if f"{name}.downsample.0.weight" in self._weights:
            values = self._normalised(f"{name}.downsample.0", f"{name}.downsample.1", values, stride=stride)
        return (inner + values).relu()

    def _pyramid(self, stages: list[Tensor]) -> list[Tensor]:
        """Three levels of equal width; the coarser levels are added to the finer ones."""
        fine, middle, coarse = (
            self._normalised(f"fpn.output{number}.0", f"fpn.output{number}.1", stage).relu()
            for number, stage in enumerate(stages, start=1)
        )
        middle = self._merge("fpn.merge2", middle, coarse)
        return [self._merge("fpn.merge1", fine, middle), middle, coarse]

    def _merge(self, name: str, finer: Tensor, coarser: Tensor) -> Tensor:
        finer = finer + functional.interpolate(coarser, size=finer.shape[-2:], mode="nearest")
        return self._normalised(f"{name}.0", f"{name}.1", finer, padding=1).relu()

    def _context(self, name: str, values: Tensor) -> Tensor:
        def layer(part: str, given: Tensor) -> Tensor:
            return self._normalised(f"{name}.{part}.0", f"{name}.{part}.1", given, padding=1)

        inner = layer("conv5X5_1", values).relu()
        wide = layer("conv7x7_3", layer("conv7X7_2", inner).relu())
        return torch.cat((layer("conv3X3", values), layer("conv5X5_2", inner), wide), dim=1).relu()

    def _head(self, name: str, features: list[Tensor], width: int) -> Tensor:
        """The outputs of one head for the anchors of all levels [n,width]."""
        parts = (self.convolve(f"{name}.{level}.conv1x1", values) for level, values in enumerate(features))
        return torch.cat([part.permute(0, 2, 3, 1).reshape(-1, width) for part in parts])

    def _normalised(self, convolution: str, norm: str, values: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        return self.normalise(norm, self.convolve(convolution, values, stride=stride, padding=padding))


_HEADS = (("ClassHead", 2), ("BboxHead", 4), ("LandmarkHead", 10))


def _anchors(sizes: list[torch.Size], device: torch.device) -> Tensor:
    """The anchors [n,4] as centre, width and height in pixels: by level, row and cell."""
    levels = []
    for (height, width), step, sides in zip(sizes, _STEPS, _ANCHORS, strict=True):
        cells = itertools.product(range(height), range(width), sides)
        levels += [((column + 0.5) * step, (row + 0.5) * step, side, side) for row, column, side in cells]
    return torch.tensor(levels, dtype=torch.float32, device=device)
