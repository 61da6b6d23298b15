"""Hypertile in the VAE: the decoder's attention within tiles of the feature map (options ``hypertile_*_vae``).

Source: github.com/tfernd/HyperTile, as AUTOMATIC1111 1.8 does it: the decoder has one attention, at depth 0, and the
number of tiles is drawn at each decode, from the same generator as for the UNet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from torch import Tensor, nn

from latentd.models.untyped import DiffusersVae

LEAST_TILE = 128  # pixels
LATENT_DOWNSCALE = 8


def tile_cells(width: int, height: int, max_tile: int) -> int:
    """The smallest side of a tile in latent cells, for pictures of ``width`` x ``height`` pixels.

    It is the largest power of two that divides both sides, at most ``max_tile`` pixels and at least 128.
    """
    common = math.gcd(width, height)
    largest = common & -common
    return max(LEAST_TILE, min(largest, max_tile)) // LATENT_DOWNSCALE


def draw_parts(length: int, least: int, swap_size: int, rng: Random) -> int:
    """The number of equal parts of a side, of at least ``least`` cells, drawn from the first ``swap_size`` numbers."""
    sizes = [n for n in range(min(least, length), length + 1) if length % n == 0][: max(swap_size, 1)]
    return length // sizes[rng.randint(0, len(sizes) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeHypertile:
    """The tiling for pictures of one size. ``rng`` is the job's generator for tilings."""

    width: int
    height: int
    max_tile: int
    swap_size: int
    rng: Random

    @contextmanager
    def on(self, vae: DiffusersVae) -> Iterator[None]:
        """A context in which the attention of ``vae``'s decoder works in tiles."""
        handles = []
        for attention in getattr(vae.decoder.mid_block, "attentions", ()):
            if attention is not None:
                tiling = _Tiling(self)
                handles.append(attention.register_forward_pre_hook(tiling.split))
                handles.append(attention.register_forward_hook(tiling.join))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Tiling:
    """The tiles of one attention: cut before it and joined after it."""

    def __init__(self, settings: VaeHypertile) -> None:
        self._settings = settings
        self._grid = (1, 1)

    def split(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """[B*down*across,C,h,w] from [B,C,H,W]."""
        s, x = self._settings, args[0]
        least = tile_cells(s.width, s.height, s.max_tile)
        b, c, height, width = x.shape
        down = draw_parts(height, least, s.swap_size, s.rng)
        across = draw_parts(width, least, s.swap_size, s.rng)
        self._grid = down, across
        x = x.reshape(b, c, down, height // down, across, width // across).permute(0, 2, 4, 1, 3, 5)
        # The attention uses views of its input, which need contiguous memory.
        return (x.reshape(b * down * across, c, height // down, width // across).contiguous(), *args[1:])

    def join(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """The reverse of :meth:`split`."""
        down, across = self._grid
        _, c, height, width = out.shape
        out = out.reshape(-1, down, across, c, height, width).permute(0, 3, 1, 4, 2, 5)
        return out.reshape(-1, c, down * height, across * width)
