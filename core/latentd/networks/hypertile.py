"""Hypertile: self-attention within tiles of the feature map instead of across all of it (options ``hypertile_*_unet``).

Source: github.com/tfernd/HyperTile, as AUTOMATIC1111 1.8 does it: at every attention layer the number of tiles is drawn
from Python's generator, which is seeded with the job's first seed.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from latentd.generations import UNetHook
from latentd.models.modules.vae_tiles import draw_parts, tile_cells
from latentd.types import Attend, AttentionHandler, AttentionSite, JsonValue, OptionValues, UNetCall

_LAYER = re.compile(r"transformer_blocks\.(\d+)\.")
_SETTINGS_UNET = {"max depth": ("max_depth", 3), "max tile size": ("max_tile", 256), "swap size": ("swap_size", 3)}
_SETTINGS_VAE = {**_SETTINGS_UNET, "max tile size": ("max_tile", 128)}

# The levels in AUTOMATIC1111's tables, by block. In SDXL, the first layer of a block has another level than the rest.
_LEVELS_SD = {**dict.fromkeys(("i1", "i2", "o9", "o10", "o11"), 0), **dict.fromkeys(("i4", "i5", "o6", "o7", "o8"), 1),
              **dict.fromkeys(("i7", "i8", "o3", "o4", "o5"), 2), "m": 3}  # fmt: skip
_LEVELS_XL = {**dict.fromkeys(("i4", "i5", "o3", "o4", "o5"), 0), **dict.fromkeys(("i7", "i8", "o0", "o1", "o2"), 1),
              "m": 2}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Hypertile(UNetHook):
    """One pass's tiling.

    :param width: width of the pass's pictures in pixels.
    :param height: height of the pass's pictures in pixels.
    :param max_tile: largest tile in pixels.
    :param swap_size: how many tile sizes are drawn from.
    :param max_depth: the deepest level that is tiled.
    :param rng: the generator, which all passes of a job share.
    """

    width: int
    height: int
    max_tile: int
    swap_size: int
    max_depth: int
    sdxl: bool
    rng: random.Random

    def attention(self, site: AttentionSite) -> AttentionHandler | None:
        """A handler for self-attention in the blocks that are tiled; None for other sites."""
        level = _level(site, self.sdxl)
        if site.kind != "self" or level is None or level > self.max_depth:
            return None

        def attend_in_tiles(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Attend) -> Tensor:
            # AUTOMATIC1111 confuses rows with columns here, which matters for pictures that are not square.
            rows, columns = _grid(hidden.shape[1], self.width / self.height)
            least = tile_cells(self.width, self.height, self.max_tile) * 2**level
            down = draw_parts(rows, least, self.swap_size, self.rng)
            across = draw_parts(columns, least, self.swap_size, self.rng)
            if down * across == 1:
                return attend(hidden, context)
            tiles = _split(hidden, rows, columns, down, across)
            return _join(attend(tiles, None), rows, columns, down, across)

        return attend_in_tiles


def hypertile_notes(options: OptionValues, *, second_pass: bool) -> dict[str, JsonValue]:
    """Entries of the infotext; empty if nothing is tiled.

    :param second_pass: whether the job has a hires pass.
    """
    notes: dict[str, JsonValue] = {}
    if options["hypertile_enable_unet"]:
        notes["Hypertile U-Net"] = True
    elif second_pass and options["hypertile_enable_unet_secondpass"]:
        notes["Hypertile U-Net second pass"] = True
    if notes:
        notes |= _settings_notes(options, "U-Net", "unet", _SETTINGS_UNET)
    if options["hypertile_enable_vae"]:
        notes["Hypertile VAE"] = True
        notes |= _settings_notes(options, "VAE", "vae", _SETTINGS_VAE)
    return notes


def _settings_notes(
    options: OptionValues, title: str, part: str, settings: Mapping[str, tuple[str, int]]
) -> dict[str, JsonValue]:
    values = {label: (options[f"hypertile_{key}_{part}"], default) for label, (key, default) in settings.items()}
    return {f"Hypertile {title} {label}": None if v == default else v for label, (v, default) in values.items()}


def _level(site: AttentionSite, sdxl: bool) -> int | None:
    kind, _, number = site.block.partition("_blocks.")
    level = (_LEVELS_XL if sdxl else _LEVELS_SD).get("m" if site.block == "middle_block" else kind[0] + number)
    layer = _LAYER.search(site.name)
    if level == 0 and layer is not None and int(layer[1]) > 0:
        return 1
    return level


@lru_cache(maxsize=64)
def _grid(count: int, ratio: float) -> tuple[int, int]:
    """Two whole numbers whose product is ``count`` and whose ratio is about ``ratio``."""
    first = round(math.sqrt(count * ratio))
    if first > 0 and count % first == 0:
        return first, count // first
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    best = min(divisors, key=lambda n: abs(n / (count // n) - ratio))
    return best, count // best


def _split(x: Tensor, rows: int, columns: int, down: int, across: int) -> Tensor:
    """[B*down*across, tile cells, C] from [B, rows*columns, C]."""
    b, _, c = x.shape
    x = x.reshape(b, down, rows // down, across, columns // across, c).transpose(2, 3)
    return x.reshape(b * down * across, -1, c)


def _join(x: Tensor, rows: int, columns: int, down: int, across: int) -> Tensor:
    """The reverse of :func:`_split`."""
    b, c = x.shape[0] // (down * across), x.shape[2]
    x = x.reshape(b, down, across, rows // down, columns // across, c).transpose(2, 3)
    return x.reshape(b, rows * columns, c)
