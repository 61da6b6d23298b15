"""The network of YOLOv8 for detection and segmentation (Ultralytics, 2023), with the names of its weight files.

A backbone of convolutions and C2f blocks, a pyramid of three levels that is walked up and down, and at each level two
branches: for boxes, as distributions of the distances to their four edges (Li et al. 2020, "Generalized focal loss"),
and for classes. Segmentation adds coefficients by which 32 prototypes of masks are summed (Bolya et al. 2019, YOLACT).
Written from the layout of the files; numbers of channels and blocks are read off their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Shapes = Mapping[str, tuple[int, ...]]

STRIDES = (8, 16, 32)
#: The head's number among the layers; those without weights (upsampling, joining) have one, too.
HEAD = 22
_BACKBONE = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
_BLOCKS = frozenset({2, 4, 6, 8, 12, 15, 18, 21})
_POOLING = 9
_HALVING = frozenset({0, 1, 3, 5, 7, 16, 19})
_EPSILON = 1e-3
#: The most of what a file may have, beyond those of the largest published network.
MOST_JOINED, MOST_CHANNELS, MOST_BLOCKS, MOST_CLASSES = 4096, 2048, 32, 2048


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says of one picture, for each of its cells.

    ``boxes`` [n,4] left, top, right, bottom in pixels of the input; ``scores`` [n,classes] from 0 to 1; for
    segmentation ``coefficients`` [n,32], and ``prototypes`` [32,h/4,w/4], else None.
    """

    boxes: Tensor
    scores: Tensor
    coefficients: Tensor | None = None
    prototypes: Tensor | None = None


class Convolution(nn.Module):
    """A convolution with batch normalisation and SiLU; without the former in files where it was fused in."""

    def __init__(self, shape: Sequence[int], stride: int = 1, *, fused: bool = False) -> None:
        super().__init__()
        outer, inner, side, _ = shape
        self.conv = nn.Conv2d(inner, outer, side, stride, side // 2, bias=fused)
        self.bn = nn.Identity() if fused else nn.BatchNorm2d(outer, eps=_EPSILON)

    def forward(self, values: Tensor) -> Tensor:
        """The features [B,C,h,w]."""
        return functional.silu(self.bn(self.conv(values)))


class Bottleneck(nn.Module):
    """Two convolutions, with the input added in the backbone."""

    def __init__(self, part: _Part, *, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = part.convolution("cv1"), part.convolution("cv2")
        self.add = add

    def forward(self, values: Tensor) -> Tensor:
        """The features [B,C,h,w]."""
        out: Tensor = self.cv2(self.cv1(values))
        return values + out if self.add else out


class C2f(nn.Module):
    """A split in two halves, bottlenecks one after another on the second, and all of them joined."""

    def __init__(self, part: _Part, *, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = part.convolution("cv1"), part.convolution("cv2")
        count = part.count("m")
        self.m = nn.ModuleList(Bottleneck(part.below(f"m.{number}"), add=add) for number in range(count))

    def forward(self, values: Tensor) -> Tensor:
        """The features [B,C,h,w]."""
        parts = list(self.cv1(values).chunk(2, dim=1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


class Pooling(nn.Module):
    """SPPF: what surrounds each cell within three growing windows, joined."""

    def __init__(self, part: _Part) -> None:
        super().__init__()
        self.cv1, self.cv2 = part.convolution("cv1"), part.convolution("cv2")

    def forward(self, values: Tensor) -> Tensor:
        """The features [B,C,h,w]."""
        parts = [self.cv1(values)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, stride=1, padding=2))
        return self.cv2(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


class Prototypes(nn.Module):
    """The prototypes of masks, at a quarter of the input's size."""

    def __init__(self, part: _Part) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = (part.convolution(f"cv{number}") for number in (1, 2, 3))
        inner, outer, side, _ = part.shape("upsample.weight", 4)
        self.upsample = nn.ConvTranspose2d(inner, outer, side, side)

    def forward(self, values: Tensor) -> Tensor:
        """The prototypes [B,32,h,w] of the finest level's features."""
        return self.cv3(self.cv2(self.upsample(self.cv1(values))))  # type: ignore[no-any-return]


class _Distances(nn.Module):
    """The mean of each distribution of a distance, in cells."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """The distances [n,4] of ``values`` [n,4*bins]."""
        weight = self.conv.weight.flatten()
        distances: Tensor = values.reshape(len(values), 4, len(weight)).softmax(dim=2) @ weight
        return distances


class Head(nn.Module):
    """The branches of each level."""

    def __init__(self, part: _Part) -> None:
        super().__init__()
        self.cv2, self.cv3 = part.branches("cv2"), part.branches("cv3")
        self.dfl = _Distances(part.shape("dfl.conv.weight", 4)[1])
        self.segments = part.has("proto.cv1.conv.weight")
        if self.segments:
            self.proto, self.cv4 = Prototypes(part.below("proto")), part.branches("cv4")

    def forward(self, levels: Sequence[Tensor]) -> Output:
        """What the network says of the one picture whose features at each level are ``levels`` [1,C,h,w]."""
        boxes, scores, coefficients = [], [], []
        for number, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
            distances = self.dfl(_cells(self.cv2[number](level)))
            centres = _centres(level)
            corners = torch.cat((centres - distances[:, :2], centres + distances[:, 2:]), dim=1)
            boxes.append(corners * stride)
            scores.append(_cells(self.cv3[number](level)).sigmoid())
            if self.segments:
                coefficients.append(_cells(self.cv4[number](level)))
        if not self.segments:
            return Output(torch.cat(boxes), torch.cat(scores))
        return Output(torch.cat(boxes), torch.cat(scores), torch.cat(coefficients), self.proto(levels[0])[0])


class Yolo(nn.Module):
    """The whole network; it takes one picture [1,3,h,w], RGB from 0 to 1, of sides that 32 divides.

    :param shapes: the shapes of its weights, by their names without the prefix ``model.``.
    :raises ValueError: they are not those of a YOLOv8 detector.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        whole = _Part(shapes, "")
        layers: list[nn.Module] = []
        for number in range(HEAD):
            part = whole.below(str(number))
            if number in _BLOCKS:
                layers.append(C2f(part, add=number in _BACKBONE))
            elif number == _POOLING:
                layers.append(Pooling(part))
            elif number in _HALVING:
                layers.append(whole.convolution(str(number), 2))
            else:
                layers.append(nn.Identity())
        self.model = nn.ModuleList([*layers, Head(whole.below(str(HEAD)))])

    def forward(self, picture: Tensor) -> Output:
        """What the network says of ``picture``."""
        layers = self.model
        values, kept = picture, {}
        for number in _BACKBONE:
            values = layers[number](values)
            kept[number] = values
        middle = layers[12](torch.cat((_doubled(kept[9]), kept[6]), dim=1))
        fine = layers[15](torch.cat((_doubled(middle), kept[4]), dim=1))
        middle = layers[18](torch.cat((layers[16](fine), middle), dim=1))
        coarse = layers[21](torch.cat((layers[19](middle), kept[9]), dim=1))
        return layers[HEAD]((fine, middle, coarse))  # type: ignore[no-any-return]


class _Part:
    """The shapes of the weights below a prefix, and layers of these shapes."""

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        self._shapes, self._prefix = shapes, prefix

    def below(self, name: str) -> _Part:
        return _Part(self._shapes, f"{self._prefix}{name}.")

    def has(self, name: str) -> bool:
        return self._prefix + name in self._shapes

    def shape(self, name: str, length: int) -> tuple[int, ...]:
        """The shape of the weight ``name``.

        :raises ValueError: there is none, or it is not of ``length`` numbers within the bounds.
        """
        found = self._shapes.get(self._prefix + name)
        if found is None or len(found) != length or not all(0 < size <= MOST_JOINED for size in found):
            raise ValueError(f"{self._prefix}{name} is {'missing' if found is None else list(found)}")
        return found

    def count(self, name: str) -> int:
        """How many blocks are numbered below ``name``."""
        count = 0
        while count < MOST_BLOCKS and self.has(f"{name}.{count}.cv1.conv.weight"):
            count += 1
        return count

    def convolution(self, name: str, stride: int = 1) -> Convolution:
        fused = self.has(f"{name}.conv.bias")
        shape = self.shape(f"{name}.conv.weight", 4)
        if shape[2] != shape[3] or shape[2] not in (1, 3) or shape[0] > MOST_CHANNELS:
            raise ValueError(f"{self._prefix}{name}.conv.weight is {list(shape)}")
        return Convolution(shape, stride, fused=fused)

    def branches(self, name: str) -> nn.ModuleList:
        """For each level two convolutions, and a last one without normalisation."""
        return nn.ModuleList(
            nn.Sequential(
                self.convolution(f"{name}.{level}.0"),
                self.convolution(f"{name}.{level}.1"),
                self._last(f"{name}.{level}.2"),
            )
            for level in range(len(STRIDES))
        )

    def _last(self, name: str) -> nn.Conv2d:
        outer, inner, *_ = self.shape(f"{name}.weight", 4)
        return nn.Conv2d(inner, outer, 1)


def _cells(level: Tensor) -> Tensor:
    """``level`` [1,C,h,w] as [h*w,C], row by row."""
    return level[0].flatten(1).T


def _centres(level: Tensor) -> Tensor:
    """The middle of each cell as x and y [h*w,2], in cells."""
    height, width = level.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=level.device) + 0.5, torch.arange(width, device=level.device) + 0.5, indexing="ij"
    )
    return torch.stack((x.flatten(), y.flatten()), dim=1)


def _doubled(values: Tensor) -> Tensor:
    return functional.interpolate(values, scale_factor=2.0, mode="nearest")
