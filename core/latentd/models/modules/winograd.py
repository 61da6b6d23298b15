"""3x3 convolutions by Winograd's algorithm, which takes a quarter of the multiplications.

A convolution of a tile of 6x6 values by a kernel of 3x3 gives 4x4 values: 144 multiplications term by term, 36 between
the transformed tile and the transformed kernel. Those of all tiles and channels together are 36 products of matrices,
which a CPU computes at its full speed. Sources: Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), whose F(4x4, 3x3) this is.

In float32 the result is within 3e-6 of the exact one's norm (torch's convolution: within 2e-6), and a picture's
result does not depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Side of the square of values that one tile gives, and of the square that it takes.
OUT, IN = 4, 6
#: Below so many channels, or tiles of one picture, transforming costs more than is saved.
LEAST_CHANNELS, LEAST_TILES = 128, 64
#: Transformed values [float32] that are computed at once; they should stay within the processor's cache.
CHUNK = 4 << 20

# Lavin and Gray's matrices for the points 0, 1, -1, 2, -2 and infinity.
_TILE = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_BACK = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class WinogradConv2d(nn.Conv2d):
    """A convolution that uses Winograd's algorithm for inputs to which it is of use: float32 on a CPU, large enough."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros":
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        if not _suits(input, weight):
            return F.conv2d(input, weight, bias, padding=1)
        return convolve(input, weight, bias)


def use_winograd(root: nn.Module) -> None:
    """Let the convolutions in ``root`` for which it is meant use Winograd's algorithm.

    Weights, names and flags stay as they are; whatever changes a weight, or calls with another one, is followed.
    """
    for module in _convolutions(root):
        module.__class__ = WinogradConv2d


def _convolutions(root: nn.Module) -> Iterator[nn.Conv2d]:
    """Plain convolutions of 3x3 with many channels."""
    for module in root.modules():
        if (
            type(module) is nn.Conv2d
            and (module.kernel_size, module.stride, module.dilation) == ((3, 3), (1, 1), (1, 1))
            and (module.padding, module.groups) == ((1, 1), 1)
            and min(module.in_channels, module.out_channels) >= LEAST_CHANNELS
        ):
            yield module


def _suits(x: Tensor, weight: Tensor) -> bool:
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight))
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return plain and not learns and x.ndim == 4 and _tiles(x.shape[2]) * _tiles(x.shape[3]) >= LEAST_TILES


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What ``conv2d(x, weight, bias, padding=1)`` gives; without gradients.

    :param x: [B,C,h,w], float32 on the CPU. :param weight: [K,C,3,3]. :param bias: [K].
    :returns: [B,K,h,w].
    """
    batch, channels, height, width = x.shape
    outputs = weight.shape[0]
    down, across = _tiles(height), _tiles(width)
    kernels = (_squared(_KERNEL) @ weight.reshape(outputs * channels, 9).T).view(IN * IN, outputs, channels)
    rows = max(1, min(down, CHUNK // (IN * IN * max(channels, outputs) * across)))
    out = x.new_empty(batch, outputs, down * OUT, across * OUT)
    for picture, result in zip(x, out, strict=True):
        for row in range(0, down, rows):
            some = _rows_of(picture, row, min(rows, down - row), across)
            tiles = torch.bmm(kernels, (_squared(_TILE) @ some.view(IN * IN, -1)).view(IN * IN, channels, -1))
            values = (_squared(_BACK) @ tiles.view(IN * IN, -1)).view(OUT, OUT, outputs, -1, across)
            target = result[:, row * OUT : (row + rows) * OUT].view(outputs, -1, OUT, across, OUT)
            ordered = values.permute(2, 3, 0, 4, 1)
            if bias is None:
                target.copy_(ordered)
            else:
                torch.add(ordered, bias.view(-1, 1, 1, 1, 1), out=target)
    return out if out.shape[2:] == x.shape[2:] else out[:, :, :height, :width].contiguous()


def _rows_of(picture: Tensor, row: int, rows: int, across: int) -> Tensor:
    """The values [6,6,C,rows,across] of some rows of tiles of ``picture`` [C,h,w], which zeros surround."""
    _, height, width = picture.shape
    top, bottom = row * OUT - 1, (row + rows) * OUT + 1
    inner = picture[:, max(top, 0) : min(bottom, height)]
    padded = F.pad(inner, (1, across * OUT + 1 - width, max(-top, 0), max(bottom - height, 0)))
    return padded.unfold(1, IN, OUT).unfold(2, IN, OUT).permute(3, 4, 0, 1, 2).contiguous()


def _tiles(side: int) -> int:
    return -(-side // OUT)


@cache
def _squared(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """The matrix that transforms both sides of a square at once, whose values are in one column."""
    with torch.inference_mode(False):
        one = torch.tensor(matrix, dtype=torch.float64)
        return torch.kron(one, one).float()
