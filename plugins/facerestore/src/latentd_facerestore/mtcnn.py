"""Face detection with MTCNN (Zhang et al. 2016): three small networks, each of which refines the boxes of the last.

Written from the paper for the weights of facenet-pytorch (MIT) in ``data/mtcnn.safetensors``. These were trained on
transposed feature maps, hence the permutation before the first dense layer.

By hand: facenet-pytorch requires torch below 2.3 and Pillow below 10.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from latentd_facerestore.faces import Faces, suppress
from latentd_facerestore.layers import Layers

Pool = tuple[int, int] | None

_CELL = 12  # side in pixels of the square that one output of the first network judges
_STRIDE = 2
_SMALLEST_FACE = 20
_PYRAMID_STEP = 0.709
_THRESHOLDS = (0.6, 0.7, 0.7)
_CROPS_AT_ONCE = 512
# Convolutions of each network, with the pooling (window, stride) after each.
_POOLS: Mapping[str, Sequence[Pool]] = {
    "pnet": ((2, 2), None, None),
    "rnet": ((3, 2), (3, 2), None),
    "onet": ((3, 2), (3, 2), (2, 2), None),
}


class Mtcnn(Layers):
    """The detector; its weights are under ``pnet.``, ``rnet.`` and ``onet.``."""

    @torch.inference_mode()
    def detect(self, picture: Tensor, check: Callable[[], None] = lambda: None) -> Faces:
        """The faces in ``picture`` [3,h,w], RGB in 0..255, on the device of the weights.

        :param check: called between the stages; an exception that it raises ends the search.
        """
        picture = picture.unsqueeze(0)
        boxes, scores = self._propose(picture, check)
        check()
        boxes, scores, _ = self._refine("rnet", picture, boxes, 24, _THRESHOLDS[1])
        keep = suppress(boxes, scores, 0.7)
        boxes = boxes[keep]
        check()
        boxes, scores, points = self._refine("onet", picture, boxes, 48, _THRESHOLDS[2])
        keep = suppress(boxes, scores, 0.7, over_smaller=True)
        return Faces(boxes=boxes[keep], scores=scores[keep], landmarks=points[keep])

    def _propose(self, picture: Tensor, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """Boxes and scores from the first network, which is applied to a pyramid of sizes."""
        height, width = picture.shape[-2:]
        factor = _CELL / _SMALLEST_FACE
        found_boxes, found_scores = [picture.new_zeros(0, 4)], [picture.new_zeros(0)]
        while min(height, width) * factor >= _CELL:
            check()
            size = (int(height * factor + 1), int(width * factor + 1))
            boxes, scores = self._slide(_resized(picture, size), factor)
            keep = suppress(boxes, scores, 0.5)
            found_boxes.append(boxes[keep])
            found_scores.append(scores[keep])
            factor *= _PYRAMID_STEP
        boxes, scores = torch.cat(found_boxes), torch.cat(found_scores)
        keep = suppress(boxes, scores, 0.7)
        return boxes[keep], scores[keep]

    def _slide(self, picture: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        features = self._features("pnet", _normalised(picture))
        probability = self.convolve("pnet.conv4_1", features).softmax(dim=1)[0, 1]
        shift = self.convolve("pnet.conv4_2", features)[0]
        rows, columns = torch.nonzero(probability >= _THRESHOLDS[0], as_tuple=True)
        corner = torch.stack((columns, rows), dim=1).float() * _STRIDE
        boxes = torch.cat((corner + 1, corner + _CELL), dim=1).floor() / factor
        return _shifted(boxes, shift[:, rows, columns].T), probability[rows, columns]

    def _refine(
        self, net: str, picture: Tensor, boxes: Tensor, side: int, threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes that ``net`` recognises as faces, with scores and (from the last network) landmarks."""
        boxes = _squared(boxes)
        crops, used = _crops(picture, boxes, side)
        if not used:
            return boxes[:0], boxes[:0, 0], boxes.new_zeros(0, 5, 2)
        boxes = boxes[used]
        parts = [self._judge(net, batch) for batch in torch.split(crops, _CROPS_AT_ONCE)]
        probability, shift, points = (torch.cat(part) for part in zip(*parts, strict=True))
        sure = probability > threshold
        boxes, shift, points = boxes[sure], shift[sure], points[sure]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = boxes[:, None, :2] + size[:, None] * points - 1
        return _shifted(boxes, shift, inclusive=True), probability[sure], landmarks

    def _judge(self, net: str, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probability [n], shift [n,4] and landmarks [n,5,2] as shares of the box."""
        features = self._features(net, _normalised(crops)).permute(0, 3, 2, 1).flatten(1)
        number = 4 if net == "rnet" else 5
        hidden = self.prelu(f"{net}.prelu{number}", self.dense(f"{net}.dense{number}", features))
        head = f"{net}.dense{number + 1}_"
        probability = self.dense(head + "1", hidden).softmax(dim=1)[:, 1]
        shift = self.dense(head + "2", hidden)
        if net == "rnet":
            return probability, shift, shift.new_zeros(len(shift), 5, 2)
        # The network's output has five x, then five y.
        points = self.dense(head + "3", hidden).reshape(-1, 2, 5).transpose(1, 2)
        return probability, shift, points

    def _features(self, net: str, picture: Tensor) -> Tensor:
        for number, pool in enumerate(_POOLS[net], start=1):
            picture = self.prelu(f"{net}.prelu{number}", self.convolve(f"{net}.conv{number}", picture))
            if pool is not None:
                picture = functional.max_pool2d(picture, *pool, ceil_mode=True)
        return picture


def _normalised(picture: Tensor) -> Tensor:
    return (picture - 127.5) / 128


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(picture, size=size, mode="area")


def _shifted(boxes: Tensor, shift: Tensor, *, inclusive: bool = False) -> Tensor:
    """``boxes`` with each edge moved by a share of the width or height."""
    size = boxes[:, 2:] - boxes[:, :2] + (1 if inclusive else 0)
    return boxes + shift * size.repeat(1, 2)


def _squared(boxes: Tensor) -> Tensor:
    """``boxes`` grown to squares with the same centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat((centre - half, centre + half), dim=1)


def _crops(picture: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, list[int]]:
    """The contents of the boxes [n,3,side,side], cut at the picture's edges, and the indices of boxes with contents."""
    height, width = picture.shape[-2:]
    crops, used = [], []
    for index, (left, top, right, bottom) in enumerate(boxes.trunc().int().tolist()):
        x, y = max(left, 1) - 1, max(top, 1) - 1
        part = picture[..., y : min(bottom, height), x : min(right, width)]
        if part.numel():
            crops.append(_resized(part, (side, side)))
            used.append(index)
    return (torch.cat(crops) if crops else picture.new_zeros(0, 3, side, side)), used
