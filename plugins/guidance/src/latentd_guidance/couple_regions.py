"""The regions of a coupled prompt: its lines, and the share that each line has in each cell of the latent.

Masks are those of Forge Couple: drawn in pixels, divided by their sum, and read at each cell's first pixel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentd.api import InvalidRequest, JsonValue

CELL = 8
"""Pixels along each side of a latent cell."""
MOST_REGIONS = 64
LEAST_BACKGROUND = 0.1
"""Least weight of a line for the whole picture."""

Planes = NDArray[np.float32]
"""[regions,h,w], in cells."""

_TAG = re.compile(r"<\w+:[^<>]*>")


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in shares of width and height, and its weight."""

    left: float
    right: float
    top: float
    bottom: float
    weight: float


def split_prompt(prompt: str, separator: str, brackets: str, *, keep_definitions: bool) -> list[str]:
    r"""The prompt's lines, without tags of networks; empty ones are left out.

    :param separator: what stands between them; empty for line breaks, which it may have as ``\n``.
    :param brackets: ``{ }`` or ``< >`` for common prompts (see :func:`expand_common`), else ``off``.
    """
    between = separator.replace("\\n", "\n").replace("\\t", " ")
    text = _TAG.sub("", prompt)
    if brackets != "off":
        opening, closing = brackets.split(" ")
        text = expand_common(text, opening, closing, keep=keep_definitions)
    lines = [line.strip() for line in text.split(between if between.strip() else "\n")]
    return [line for line in lines if line]


def expand_common(text: str, opening: str, closing: str, *, keep: bool) -> str:
    """``text`` with ``{name}`` replaced by what ``{name: value}`` defines anywhere in it.

    :param keep: whether a definition stands for its value itself; else it is taken out.
    """
    values: dict[str, str] = {}

    def define(match: re.Match[str]) -> str:
        name, value = match[1].strip(), match[2].strip()
        values[name] = value
        return value if keep else ""

    others = f"[^{opening}{closing}"
    text = re.sub(f"{opening}({others}:]+):({others}]+){closing}", define, text)
    return re.sub(f"{opening}({others}]+){closing}", lambda match: values.get(match[1].strip(), match[0]), text)


def tiles(count: int, width: int, height: int, *, horizontal: bool) -> Planes:
    """``count`` columns (``horizontal``) or rows of equal size for a picture of ``width`` x ``height`` pixels."""
    length, across = (width, height) if horizontal else (height, width)
    size = -(-length // count)
    along = np.arange(0, length, CELL) // size
    lines = (along[None] == np.arange(count)[:, None]).astype(np.float32)
    planes = np.repeat(lines[:, None], -(-across // CELL), axis=1)
    return planes if horizontal else np.ascontiguousarray(planes.transpose(0, 2, 1))


def rectangles(areas: Sequence[Area], width: int, height: int) -> Planes:
    """One plane for each area, with its weight inside it."""
    columns, rows = np.arange(0, width, CELL), np.arange(0, height, CELL)

    def within(pixels: NDArray[np.int64], length: int, start: float, end: float) -> NDArray[np.float32]:
        return ((pixels >= int(length * start)) & (pixels < int(length * end))).astype(np.float32)

    def plane(area: Area) -> NDArray[np.float32]:
        inside = np.outer(within(rows, height, area.top, area.bottom), within(columns, width, area.left, area.right))
        return (inside * area.weight).astype(np.float32)

    return np.stack([plane(area) for area in areas])


def drawn(masks: Sequence[tuple[Image.Image, float]], width: int, height: int) -> Planes:
    """One plane for each mask: its brightness, from 0 to 1, times its weight."""
    sized = [mask.convert("L").resize((width, height), Image.Resampling.NEAREST) for mask, _ in masks]
    planes = [np.asarray(mask, dtype=np.float32)[::CELL, ::CELL] / 255 for mask in sized]
    return np.stack([plane * weight for plane, (_, weight) in zip(planes, masks, strict=True)]).astype(np.float32)


def with_background(planes: Planes, background: str, weight: float) -> Planes:
    """``planes`` with one of even ``weight`` before or after them, for a first or last line that fills the picture."""
    if background == "None":
        return planes
    even = np.full((1, *planes.shape[1:]), max(LEAST_BACKGROUND, weight), dtype=np.float32)
    return np.concatenate([even, planes] if background == "First Line" else [planes, even])


def shares(planes: Planes) -> Planes:
    """``planes`` divided by their sum.

    :raises InvalidRequest: a cell belongs to no region, or a region to no cell.
    """
    total = planes.sum(axis=0)
    if not np.isfinite(total).all() or float(total.min()) <= 0:
        raise InvalidRequest(
            "Forge Couple: parts of the picture belong to no region",
            hint="let the regions cover all of it, or set background to First Line or Last Line",
        )
    empty = np.flatnonzero(planes.reshape(len(planes), -1).max(axis=1) <= 0)
    if len(empty):
        raise InvalidRequest(f"Forge Couple: region {int(empty[0]) + 1} is empty at this size")
    return np.asarray(planes / total, dtype=np.float32)


def read_areas(mapping: JsonValue) -> list[Area]:
    """The areas of mode Advanced: rows ``[x1, x2, y1, y2, weight]``, or ``["x1:x2", "y1:y2", weight]`` of version 1.

    :raises InvalidRequest: a row is neither, or no part of the picture.
    """
    areas = []
    for number, row in enumerate(_rows(mapping), start=1):
        values = _numbers(row)
        if values is None or len(values) != 5:
            raise InvalidRequest(
                f"Forge Couple: row {number} of mapping is no region", hint="rows are [x1, x2, y1, y2, weight]"
            )
        area = Area(*values)
        if not (0 <= area.left < area.right <= 1 and 0 <= area.top < area.bottom <= 1 and area.weight >= 0):
            raise InvalidRequest(
                f"Forge Couple: row {number} of mapping is no part of the picture",
                hint="0 <= x1 < x2 <= 1, 0 <= y1 < y2 <= 1, weight >= 0",
            )
        areas.append(area)
    return areas


def read_masks(mapping: JsonValue) -> list[tuple[str, float]]:
    """The masks of mode Mask as (picture's text, weight): rows ``{"mask": "<base64>", "weight": 1.0}``.

    :raises InvalidRequest: a row is none.
    """
    masks = []
    for number, row in enumerate(_rows(mapping), start=1):
        text = row.get("mask") if isinstance(row, Mapping) else None
        weight = _numbers([row.get("weight", 1.0)]) if isinstance(row, Mapping) else None
        if not isinstance(text, str) or weight is None or weight[0] < 0:
            raise InvalidRequest(
                f"Forge Couple: row {number} of mapping is no mask", hint='rows are {"mask": "<base64>", "weight": 1.0}'
            )
        masks.append((text, weight[0]))
    return masks


def _rows(mapping: JsonValue) -> list[JsonValue]:
    if not isinstance(mapping, list) or not mapping:
        raise InvalidRequest("Forge Couple: modes Advanced and Mask need a mapping")
    if len(mapping) > MOST_REGIONS:
        raise InvalidRequest(f"Forge Couple: more than {MOST_REGIONS} regions")
    return mapping


def _numbers(row: JsonValue) -> list[float] | None:
    """The row's numbers, texts such as ``0:0.5`` being two; None if it has anything else in it."""
    if not isinstance(row, list) or len(row) > 5:
        return None
    parts = [part for value in row for part in (value.split(":") if isinstance(value, str) else [value])]
    if any(isinstance(part, bool) or not isinstance(part, int | float | str) for part in parts):
        return None
    try:
        numbers = [float(part) for part in parts]
    except (ValueError, OverflowError):
        return None
    return numbers if all(np.isfinite(number) and abs(number) <= 1e6 for number in numbers) else None
