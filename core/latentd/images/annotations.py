"""Grids with legends above the columns and beside the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from latentd.regular import open_regular

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Label:
    """One line of a legend; an inactive one is greyed and struck out."""

    text: str
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendStyle:
    """Options ``font``, ``grid_text_active_color``, ``grid_text_inactive_color`` and ``grid_background_color``."""

    font: str = ""
    active: str = "#000000"
    inactive: str = "#999999"
    background: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class _Block:
    labels: list[tuple[Label, tuple[int, int]]] = field(default_factory=list)
    allowed_width: int = 0


Legend = Sequence[Sequence[Label]]


def annotate_grid(
    grid: Image.Image,
    cell: tuple[int, int],
    columns: Legend,
    rows: Legend,
    *,
    margin: int = 0,
    style: LegendStyle | None = None,
) -> Image.Image:
    """``grid`` in RGB with a legend above each column and to the left of each row, cells ``margin`` pixels apart.

    :param cell: width and height of one cell in ``grid``.
    :param columns: labels of each column; a side whose labels are all empty takes no room.
    """
    style = style or LegendStyle()
    width, height = cell
    size = (width + height) // 25
    gap = size // 2
    left = width * 3 // 4 if any(label.text for labels in rows for label in labels) else 0
    painter = _Painter(size, gap, style)
    above = [painter.measure(labels, width) for labels in columns]
    beside = [painter.measure(labels, left) for labels in rows]
    tallest = max((painter.height(block) for block in above), default=0)
    top = tallest + gap * 2 if any(painter.height(block) for block in above) else 0
    across, down = grid.width // width, grid.height // height
    sheet = Image.new(
        "RGB", (grid.width + left + margin * (across - 1), grid.height + top + margin * (down - 1)), style.background
    )
    for row in range(down):
        for column in range(across):
            box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            sheet.paste(grid.crop(box), (left + (width + margin) * column, top + (height + margin) * row))
    draw = ImageDraw.Draw(sheet)
    for column, block in enumerate(above[:across]):
        centre = left + (width + margin) * column + width / 2
        painter.paint(draw, centre, top / 2 - painter.height(block) / 2, block)
    for row, block in enumerate(beside[:down]):
        middle = top + (height + margin) * row + height / 2
        # The gaps between the lines do not count here, as in AUTOMATIC1111.
        painter.paint(draw, left / 2, middle - painter.height(block, gaps=False) / 2, block)
    return sheet


def prompt_matrix_legends(parts: Sequence[str]) -> tuple[list[list[Label]], list[list[Label]]]:
    """``(columns, rows)`` for a prompt matrix: the first half of ``parts`` varies across, the second half down.

    The binary digits of a column's or row's number say which of its parts are active.
    """
    boundary = math.ceil(len(parts) / 2)
    return _switched(parts[:boundary]), _switched(parts[boundary:])


def _switched(parts: Sequence[str]) -> list[list[Label]]:
    return [[Label(text, bool(n >> bit & 1)) for bit, text in enumerate(parts)] for n in range(1 << len(parts))]


class _Painter:
    """Measures and draws legend blocks at one font size."""

    def __init__(self, size: int, gap: int, style: LegendStyle) -> None:
        self._size = max(size, 1)
        self._gap = gap
        self._style = style
        self._font = self._load(self._size)
        self._scratch = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def _load(self, size: int) -> Font:
        if not self._style.font:
            return ImageFont.load_default(size)
        if (font := Path(self._style.font)).exists() or font.is_symlink():
            open_regular(font).close()
        return ImageFont.truetype(self._style.font, size)

    def measure(self, labels: Sequence[Label], width: int) -> _Block:
        """The labels wrapped to ``width`` pixels, with their sizes."""
        block = _Block(allowed_width=width)
        for label in labels:
            for line in self._wrapped(label.text, width):
                block.labels.append((Label(line, label.active), self._extent(line, self._font)))
        return block

    def height(self, block: _Block, *, gaps: bool = True) -> int:
        """Pixels of all lines, with the gaps between them."""
        between = self._gap * (len(block.labels) - 1) if gaps and block.labels else 0
        return sum(size[1] for _, size in block.labels) + between

    def paint(self, draw: ImageDraw.ImageDraw, x: float, y: float, block: _Block) -> None:
        """Draw the block's lines centred on ``x`` from ``y`` down; a line too wide gets a smaller font."""
        for label, (width, height) in block.labels:
            font, size = self._font, self._size
            while size > 1 and self._extent(label.text, font)[0] > block.allowed_width > 0:
                size -= 1
                font = self._load(size)
            colour = self._style.active if label.active else self._style.inactive
            middle = y + height / 2
            draw.multiline_text((x, middle), label.text, font=font, fill=colour, anchor="mm", align="center")
            if not label.active:
                struck = y + height // 2
                draw.line((x - width // 2, struck, x + width // 2, struck), fill=colour, width=4)
            y += height + self._gap

    def _extent(self, text: str, font: Font) -> tuple[int, int]:
        left, top, right, bottom = self._scratch.multiline_textbbox((0, 0), text, font=font)
        return math.ceil(right - left), math.ceil(bottom - top)

    def _wrapped(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self._scratch.textlength(longer, font=self._font) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines if lines[0] or len(lines) == 1 else lines[1:]
