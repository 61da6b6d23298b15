"""Large pictures from overlapping tiles that are denoised together.

MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113) averages where tiles overlap; Mixture of Diffusers (Jiménez 2023,
arXiv 2302.02412) weights by a Gaussian.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from latentd.api import Evaluate, Generation, UNetCall, UNetHook, Window
from latentd_guidance.technique import Arguments, Technique, slider

if TYPE_CHECKING:
    from torch import Tensor

CELL = 8
"""Pixels along each side of a latent cell."""
VARIANCE = 0.01
"""Variance of the Gaussian, in units of a tile's width squared."""


class MultiDiffusionArgs(Arguments):
    """Tiles and their overlap in pixels; ``tile_batch_size`` tiles are evaluated at once."""

    method: Literal["MultiDiffusion", "Mixture of Diffusers"] = Field("MultiDiffusion", title="Method")
    tile_width: int = slider(768, "Tile Width", 16, 8192, 16, ge=16)
    tile_height: int = slider(768, "Tile Height", 16, 8192, 16, ge=16)
    tile_overlap: int = slider(64, "Tile Overlap", 0, 2048, 32, ge=0)
    tile_batch_size: int = slider(4, "Tile Batch Size", 1, 8192, 1, ge=1, le=64)


class MultiDiffusion(Technique[MultiDiffusionArgs]):
    """Memory and attention of one tile, whatever the picture's size."""

    title = "MultiDiffusion Integrated (SD 1.x, SD 2.x, SDXL)"
    aliases = ("MultiDiffusion Integrated",)
    prefix = "multidiffusion_"
    Args = MultiDiffusionArgs

    def hook(self, generation: Generation, args: MultiDiffusionArgs) -> UNetHook:
        """The hook that acts in each evaluation of the UNet in this job."""
        return MultiDiffusionHook(args)


class MultiDiffusionHook(UNetHook):
    """Evaluates the UNet on tiles and combines its outputs by the tiles' weights."""

    def __init__(self, args: MultiDiffusionArgs) -> None:
        self.args = args

    def around(self, call: UNetCall, evaluate: Evaluate) -> Tensor:
        """The output for the whole latent; a latent that fits into one tile is evaluated as usual."""
        import torch

        height, width = call.sample.shape[-2:]
        args = self.args
        tiles = tile_windows(
            height, width, args.tile_height // CELL, args.tile_width // CELL, args.tile_overlap // CELL
        )
        if len(tiles) == 1:
            return evaluate(call)
        weight = tile_weight(tiles[0], gaussian=args.method != "MultiDiffusion").to(call.sample.device)
        total = torch.zeros(call.sample.shape, device=call.sample.device)
        weights = torch.zeros(height, width, device=call.sample.device)
        for group in _groups(tiles, args.tile_batch_size):
            outputs = evaluate(tiled_call(call, group), group).float().chunk(len(group))
            for window, output in zip(group, outputs, strict=True):
                place = (..., slice(window.top, window.top + window.height),
                         slice(window.left, window.left + window.width))  # fmt: skip
                total[place] += output * weight
                weights[place] += weight
        return total / weights


def tile_windows(height: int, width: int, tile_height: int, tile_width: int, overlap: int) -> list[Window]:
    """Tiles of one size, evenly over a latent of ``height`` x ``width`` cells, overlapping by at least ``overlap``.

    An overlap that leaves less than 4 cells of a tile is reduced to leave 4.
    """
    tile_height, tile_width = min(max(tile_height, 1), height), min(max(tile_width, 1), width)
    overlap = max(0, min(overlap, min(tile_height, tile_width) - 4))
    return [
        Window(top, left, tile_height, tile_width)
        for top in _starts(height, tile_height, overlap)
        for left in _starts(width, tile_width, overlap)
    ]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    count = math.ceil((length - overlap) / (tile - overlap)) if length > tile else 1
    if count <= 1:
        return [0]
    return [min(int(index * (length - tile) / (count - 1)), length - tile) for index in range(count)]


def tile_weight(tile: Window, *, gaussian: bool) -> Tensor:
    """The weight of each cell of a tile, [height, width], float32."""
    import torch

    if not gaussian:
        return torch.ones(tile.height, tile.width)
    rows, columns = (
        torch.exp(-(((torch.arange(side) - (side - 1) / 2) / side) ** 2) / (2 * VARIANCE))
        for side in (tile.height, tile.width)
    )
    return rows[:, None] * columns[None]


def _groups(tiles: Sequence[Window], size: int) -> list[Sequence[Window]]:
    """The tiles in the fewest groups of at most ``size``, all of about the same size."""
    count = math.ceil(len(tiles) / size)
    each = math.ceil(len(tiles) / count)
    return [tiles[start : start + each] for start in range(0, len(tiles), each)]


def tiled_call(call: UNetCall, tiles: Sequence[Window]) -> UNetCall:
    """``call`` on the parts of its latent in ``tiles``: the batch holds all rows of the first tile, then the next."""
    import torch

    def cut(x: Tensor) -> Tensor:
        return torch.cat([x[..., t.top : t.top + t.height, t.left : t.left + t.width] for t in tiles])

    def repeat(x: Tensor) -> Tensor:
        return torch.cat([x] * len(tiles))

    part = copy.copy(call)
    part.sample = cut(call.sample)
    part.concat = None if call.concat is None else cut(call.concat)
    part.sigma, part.timestep, part.context = repeat(call.sigma), repeat(call.timestep), repeat(call.context)
    part.added = None if call.added is None else repeat(call.added)
    part.is_cond, part.image_index = repeat(call.is_cond), repeat(call.image_index)
    return part
