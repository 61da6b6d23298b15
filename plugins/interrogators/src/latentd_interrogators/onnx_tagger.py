"""Taggers as ONNX files: the WD taggers, and DeepDanbooru."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from latentd.api import ModelLoadError, OnnxModel, install_hint, open_onnx, read_regular, resize_image

_RATING_CATEGORY = "9"
_DEFAULT_SIDE = 448
_MAX_LABELS = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxTagger:
    """A network, its tags, and the function that prepares its picture [side,side,3] float32."""

    network: OnnxModel
    tags: list[str]
    side: int
    prepare: Callable[[Image.Image, int], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the network's file."""
        return self.network.nbytes

    def scores(self, image: Image.Image) -> dict[str, float]:
        """Tag → probability; the names of ratings begin with ``rating:``."""
        pixels = self.prepare(image.convert("RGB"), self.side)
        probabilities = self.network.run(pixels[None])[0][0]
        if len(probabilities) != len(self.tags):
            raise ModelLoadError(f"the tagger gives {len(probabilities)} scores for {len(self.tags)} labels")
        return {tag: float(score) for tag, score in zip(self.tags, probabilities, strict=True)}


def load_onnx(weights: Path, labels: Path, device: str) -> OnnxTagger:
    """The tagger in ``weights`` with the names in ``labels`` (``selected_tags.csv`` or ``tags.txt``).

    :raises NotConfigured: onnxruntime is not installed.
    :raises ModelLoadError: one of the files is damaged.
    """
    network = open_onnx(weights, device, install=install_hint("interrogators", "onnx"))
    if len(network.shape) != 4 or network.shape[-1] != 3:
        raise ModelLoadError(f"{weights.name} takes {list(network.shape)}, not pictures [batch, height, width, 3]")
    is_wd = labels.suffix == ".csv"
    return OnnxTagger(
        network=network,
        tags=_wd_tags(labels) if is_wd else read_regular(labels, _MAX_LABELS).decode().split(),
        side=network.shape[1] or _DEFAULT_SIDE,
        prepare=_wd_picture if is_wd else _deepdanbooru_picture,
    )


def _wd_tags(labels: Path) -> list[str]:
    """Names from the columns ``name`` and ``category``; category 9 is the rating."""
    rows = list(csv.DictReader(io.StringIO(read_regular(labels, _MAX_LABELS).decode(), newline="")))
    if not rows or not {"name", "category"} <= rows[0].keys():
        raise ModelLoadError(f"{labels.name} has no columns name and category")
    return [f"rating:{row['name']}" if row["category"] == _RATING_CATEGORY else row["name"] for row in rows]


def _wd_picture(image: Image.Image, side: int) -> np.ndarray:
    """The picture in the middle of a white square, channels blue, green, red, from 0 to 255."""
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    resized = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized, dtype=np.float32)[:, :, ::-1])


def _deepdanbooru_picture(image: Image.Image, side: int) -> np.ndarray:
    """The picture fitted into the square with its borders filled, RGB, from 0 to 1."""
    fitted: Image.Image = resize_image(2, image, side, side)
    return np.asarray(fitted, dtype=np.float32) / 255
