"""Running an upscaling network, tile by tile. This module imports torch, so only the worker uses it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentd.api import require_memory, upscale_tiled
from latentd_upscalers.families import Family
from latentd_upscalers.network import Network, load_network, to_image, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.api import WorkerContext

KIND = "upscaler"
#: A pixel of a result that is one tensor: float32, three channels, and once more while it is made a picture.
RESULT_BYTES = 2 * 3 * 4
_KEPT = 2  # the extras endpoints blend two


def run_upscaler(path: Path, family: Family, image: Image, context: WorkerContext) -> Image:
    """``image`` (RGB) enlarged once by the network in ``path``, with the family's tiles and seams.

    The cancel check of ``context`` runs before every tile.

    :raises ModelLoadError: the file is damaged, or not an upscaler.
    :raises TooLarge: memory cannot hold a tile's feature maps, or the result.
    """
    tile, overlap = (int(context.options[key]) for key in family.options)
    image = image.convert("RGB")
    with context.lease(
        KIND, path, lambda: load_network(path, context.device), lambda network: network.nbytes, keep=_KEPT
    ) as network:
        _require_memory(network, image.size, tile, whole=family.seams == "averaged")
        if family.seams == "averaged":
            return upscale_averaged(network, image, context, tile=tile, overlap=overlap)
        return upscale_blended(network, image, context, tile=tile, overlap=overlap)


def _require_memory(network: Network, size: tuple[int, int], tile: int, *, whole: bool) -> None:
    """Refuse a picture of ``size`` where memory holds no tile's feature maps or, as ``whole``, no result."""
    width, height = size if tile <= 0 else (min(tile, size[0]), min(tile, size[1]))
    require_memory(
        network.working_bytes(width, height),
        f"enlarging {width}x{height} in one piece",
        hint="use a smaller picture" if tile > 0 else "set the option for its tiles",
        device=network.device,
    )
    if whole or tile <= 0:
        width, height = size[0] * network.scale, size[1] * network.scale
        require_memory(RESULT_BYTES * width * height, f"a result of {width}x{height}", hint="use a smaller picture")


def upscale_blended(network: Network, image: Image, context: WorkerContext, *, tile: int, overlap: int) -> Image:
    """``image`` enlarged in 8-bit tiles whose seams are blended by linear ramps, or in one piece if ``tile`` <= 0."""

    def upscale_tile(part: Image) -> Image:
        context.check()
        return to_image(network.enlarge(to_tensor(part)))

    return upscale_tiled(upscale_tile, image, tile=tile, overlap=min(overlap, max(tile - 1, 0)))


def upscale_averaged(network: Network, image: Image, context: WorkerContext, *, tile: int, overlap: int) -> Image:
    """``image`` enlarged in tiles that are averaged in float32 where they overlap (rules: a1111-extras)."""
    picture = to_tensor(image)
    height, width = picture.shape[-2:]
    side, scale = min(tile, height, width), network.scale
    if side <= 0:
        context.check()
        return to_image(network.enlarge(picture))
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    total = torch.zeros(1, 3, height * scale, width * scale)
    for y, x in itertools.product(rows, columns):
        context.check()
        part = network.enlarge(picture[..., y : y + side, x : x + side])
        total[..., y * scale : (y + side) * scale, x * scale : (x + side) * scale] += part
    # A pixel is covered by (rows over it) times (columns over it) tiles.
    total /= _coverage(rows, side, height).repeat_interleave(scale)[:, None]
    total /= _coverage(columns, side, width).repeat_interleave(scale)
    return to_image(total)


def _starts(length: int, side: int, overlap: int) -> list[int]:
    return [*range(0, length - side, max(side - overlap, 1)), length - side]


def _coverage(starts: list[int], side: int, length: int) -> torch.Tensor:
    counts = torch.zeros(length)
    for start in starts:
        counts[start : start + side] += 1
    return counts
