"""What a picture shows, by measurement: its background colour, and which motif's rendering it is nearest to."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scenes import COLOURS, Scene, render

EDGE = 48


def background(picture: np.ndarray) -> str:
    """The named colour nearest (in Lab-like opponent axes) to the median of the picture's border."""
    width = max(2, picture.shape[0] // 24)
    border = np.concatenate(
        [part.reshape(-1, 3) for part in (picture[:width], picture[:, :width], picture[:, -width:])]
    )
    found = _opponent(np.median(border, axis=0))
    return min(COLOURS, key=lambda name: float(np.square(found - _opponent(np.array(COLOURS[name]))).sum()))


def _opponent(rgb: np.ndarray) -> np.ndarray:
    r, g, b = (np.asarray(rgb, np.float64) / 255)[..., :3].T
    return np.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], -1)


def describe(picture: np.ndarray) -> np.ndarray:
    """A unit vector: gradient histograms, colours by place and silhouette of what stands out from the border."""
    values = picture.astype(np.float32) / 255
    width = max(2, len(values) // 24)
    sides = np.concatenate((values[:, :width], values[:, -width:]), 1)
    ground = np.median(sides, axis=1, keepdims=True)  # row by row, so that gradients count as background
    apart = np.abs(values - ground).max(-1) > 0.14
    apart = _despeckle(apart)
    rows, columns = np.flatnonzero(apart.any(1)), np.flatnonzero(apart.any(0))
    if len(rows) < 4 or len(columns) < 4:
        rows, columns = np.arange(len(values)), np.arange(values.shape[1])
    values = np.where(apart[..., None], values, 0.5)
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    crop = _square(Image.fromarray((values * 255).astype(np.uint8)).crop(box), 128)
    mask = _square(Image.fromarray((apart * 255).astype(np.uint8)).crop(box), 0)
    colours = np.asarray(crop.resize((8, 8), Image.Resampling.BOX), np.float32).ravel() / 255 - 0.5
    shape = np.asarray(mask.resize((12, 12), Image.Resampling.BOX), np.float32).ravel() / 255 - 0.5
    parts = [(gradients(np.asarray(crop.convert("L"), np.float32) / 255), 1.0), (colours, 1.6), (shape, 1.0)]
    return np.concatenate([weight * part / (np.linalg.norm(part) + 1e-6) for part, weight in parts])


def _despeckle(mask: np.ndarray) -> np.ndarray:
    smooth = np.asarray(
        Image.fromarray((mask * 255).astype(np.uint8))
        .resize((mask.shape[1] // 4, mask.shape[0] // 4), Image.Resampling.BOX)
        .resize(mask.shape[::-1], Image.Resampling.NEAREST)
    )
    return mask & (smooth > 100)


def _square(image: Image.Image, fill: int) -> Image.Image:
    side = max(image.size)
    canvas = Image.new(image.mode, (side, side), fill if image.mode == "L" else (fill,) * 3)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.resize((EDGE, EDGE), Image.Resampling.BILINEAR)


def gradients(grey: np.ndarray) -> np.ndarray:
    """Histograms of 9 unsigned gradient directions in 6x6 cells of 8 pixels, each cell's root-normalised."""
    dy, dx = np.gradient(grey)
    bins = np.minimum((np.arctan2(dy, dx) % np.pi) / np.pi * 9, 8.999).astype(int)
    strength = np.hypot(dx, dy)
    cells = np.zeros((EDGE // 8, EDGE // 8, 9), np.float32)
    where = np.arange(EDGE) // 8
    np.add.at(cells, (where[:, None], where[None, :], bins), strength)
    return np.sqrt(cells / (np.linalg.norm(cells, axis=-1, keepdims=True) + 0.05)).ravel()


@cache
def references(colour: str, edge: int, count: int) -> np.ndarray:
    """Descriptions (count, d) of every motif rendered on this background at the middle of the sizes in training."""
    rows = []
    for number in range(count):
        scene = Scene(size=(edge, edge), things=((number, edge / 2, edge / 2, 0.77 * edge),), top=colour, bottom=colour)
        rows.append(describe(render(scene)))
    return np.stack(rows)


def ranking(picture: np.ndarray, colour: str, count: int) -> np.ndarray:
    """Motif numbers, nearest first, for a picture whose background was asked to be `colour`."""
    distances = np.square(references(colour, 128, count) - describe(picture)).sum(1)
    return np.argsort(distances)
