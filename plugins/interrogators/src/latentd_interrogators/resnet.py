"""DeepDanbooru's residual network (``model-resnet_custom_v3.pt``). Only the worker uses it, since it imports torch.

The file has 179 convolutions in order; a bottleneck is three of them (reduce, 3x3, expand). If a stage changes
channels, its first block has a fourth convolution for the shortcut, which comes first in the file; in the stage that
only halves the picture it comes last. Strided 3x3 convolutions and the pooling are padded at the right and the bottom,
as in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentd.api import ModelLoadError, load_pickle, resize_image

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 512


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of bottlenecks, the first with ``stride``, and the place of its shortcut's convolution in the file."""

    blocks: int
    stride: int
    shortcut: Literal["first", "last"] = "first"


STAGES = (Stage(3, 1), Stage(8, 2), Stage(20, 2), Stage(20, 2, "last"), Stage(3, 2), Stage(3, 2))
CONVOLUTIONS = 2 + sum(3 * stage.blocks + 1 for stage in STAGES)

Convolution = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetTagger:
    """The network's convolutions, (weight, bias) in order, and its tags."""

    convolutions: list[Convolution]
    tags: list[str]

    @torch.inference_mode()
    def scores(self, image: Image) -> dict[str, float]:
        """Tag → probability; the picture is fitted into 512x512 with its borders filled."""
        pixels = np.asarray(resize_image(2, image.convert("RGB"), SIDE, SIDE), dtype=np.float32) / 255
        device = self.convolutions[0][0].device
        given = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).to(device)
        return dict(zip(self.tags, self._probabilities(given)[0].tolist(), strict=True))

    def _probabilities(self, x: Tensor) -> Tensor:
        remaining = iter(self.convolutions)
        x = F.conv2d(F.pad(x, (2, 3, 2, 3)), *next(remaining), stride=2).relu()
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        for stage in STAGES:
            for number in range(stage.blocks):
                x = _block(x, remaining, stage if number == 0 else None)
        return F.conv2d(x, *next(remaining)).mean(dim=(2, 3)).sigmoid()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(weight.nbytes + (0 if bias is None else bias.nbytes) for weight, bias in self.convolutions)


def _block(x: Tensor, remaining: Iterator[Convolution], opens: Stage | None) -> Tensor:
    """The output of one bottleneck; ``opens`` is the stage of which it is the first, or None."""
    stride = opens.stride if opens else 1
    shortcut = x
    if opens and opens.shortcut == "first":
        shortcut = F.conv2d(x, *next(remaining), stride=stride)
    inner = F.conv2d(x, *next(remaining)).relu()
    padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
    inner = F.conv2d(F.pad(inner, padding), *next(remaining), stride=stride).relu()
    inner = F.conv2d(inner, *next(remaining))
    if opens and opens.shortcut == "last":
        shortcut = F.conv2d(x, *next(remaining), stride=stride)
    return (inner + shortcut).relu()


def load_resnet(path: Path, device: str) -> ResNetTagger:
    """The tagger in ``path``, in float32 on ``device``.

    :raises ModelLoadError: the file is damaged, or of another layout.
    """
    held = load_pickle(path)
    tags = held.get("tags")
    keys = [f"n_Conv_{number}" for number in range(CONVOLUTIONS)]
    if not isinstance(tags, list) or any(f"{key}.weight" not in held for key in keys):
        raise ModelLoadError(
            f"{path.name} is not DeepDanbooru's network: {CONVOLUTIONS} convolutions and tags expected"
        )
    convolutions = [_convolution(held, key, device) for key in keys]
    if convolutions[-1][0].shape[0] != len(tags):
        raise ModelLoadError(f"{path.name} has {len(tags)} tags for {convolutions[-1][0].shape[0]} outputs")
    return ResNetTagger(convolutions=convolutions, tags=[str(tag) for tag in tags])


def _convolution(held: Mapping[str, Tensor], key: str, device: str) -> Convolution:
    weight, bias = held[f"{key}.weight"], held.get(f"{key}.bias")
    return weight.to(device, torch.float32), None if bias is None else bias.to(device, torch.float32)
