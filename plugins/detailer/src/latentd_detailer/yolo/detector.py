"""Finding things with a YOLOv8 file: the picture is fitted into the network's size, and its answer chosen from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from latentd.api import Detection, ModelLoadError
from latentd_detailer.yolo.files import load_yolo
from latentd_detailer.yolo.network import STRIDES, Output
from latentd_detailer.yolo.onnx import load_onnx

if TYPE_CHECKING:
    from latentd.api import WorkerContext

KIND = "adetailer"
KEPT = 2  # loaded files
_SIDE = 640  # the longer one, in pixels, at which pictures are searched
_GREY = 114 / 255
_OVERLAP = 0.7
_MOST, _MOST_JUDGED = 300, 3000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network, the names of its classes, the size (height, width) that it takes or None, and its bytes."""

    network: Callable[[Tensor], Output]
    labels: tuple[str, ...]
    side: tuple[int, int] | None
    device: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture lies in the network's input: its scale, the grey at its left and top, its size there."""

    scale: float
    left: int
    top: int
    width: int
    height: int


def detect_with(path: Path, image: Image.Image, confidence: float, context: WorkerContext) -> list[Detection]:
    """What the file's network finds in ``image`` (RGB) with a score over ``confidence``, surest first.

    :raises ModelLoadError: the file is damaged, refused, or of another kind.
    """
    with context.lease(KIND, path, lambda: _load(path, context.device), lambda held: held.nbytes, keep=KEPT) as held:
        context.check()
        picture, fit = fitted(image, held.side)
        with torch.inference_mode():
            try:
                output = held.network(picture.to(held.device))
            except RuntimeError as error:  # shapes that fit the layers one by one, but not each other
                if type(error).__name__ == "OutOfMemoryError":
                    raise
                raise ModelLoadError(f"{path.name} is no YOLOv8 detector: {str(error)[:200]}") from error
        return found_in(output, held.labels, fit, image.size, confidence)


def _load(path: Path, device: str) -> Loaded:
    if path.suffix == ".onnx":
        onnx = load_onnx(path, device)
        return Loaded(onnx, onnx.labels, onnx.side, "cpu", path.stat().st_size)
    network, labels = load_yolo(path, device)
    nbytes = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    return Loaded(network, labels, None, device, nbytes)


def fitted(image: Image.Image, side: tuple[int, int] | None) -> tuple[Tensor, Fit]:
    """``image`` as the network takes it [1,3,h,w], RGB from 0 to 1, in the middle of grey.

    :param side: height and width of the input; None for the smallest multiples of 32 that hold the picture at 640.
    """
    height, width = side or (_SIDE, _SIDE)
    scale = min(height / image.height, width / image.width)
    inner_width, inner_height = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    if side is None:
        height, width = (-(-size // STRIDES[-1]) * STRIDES[-1] for size in (inner_height, inner_width))
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    if (inner_width, inner_height) != image.size:
        pixels = functional.interpolate(pixels, (inner_height, inner_width), mode="bilinear", align_corners=False)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    edges = (left, width - inner_width - left, top, height - inner_height - top)
    return functional.pad(pixels, edges, value=_GREY), Fit(scale, left, top, inner_width, inner_height)


def found_in(
    output: Output, labels: tuple[str, ...], fit: Fit, size: tuple[int, int], confidence: float
) -> list[Detection]:
    """The things in a network's answer, in pixels of the picture of ``size`` (width, height)."""
    scores, classes = output.scores.max(dim=1)
    usable = (scores > confidence) & output.boxes.isfinite().all(dim=1)
    candidates = usable.nonzero()[:, 0]
    candidates = candidates[scores[candidates].argsort(descending=True, stable=True)][:_MOST_JUDGED]
    kept = candidates[apart(output.boxes[candidates], classes[candidates])][:_MOST]
    masks = _masks(output, kept, fit, size)
    found = []
    for place, number in enumerate(kept.tolist()):
        box = _in_picture(output.boxes[number], fit, size)
        if box[2] > box[0] and box[3] > box[1]:
            kind = int(classes[number])
            label = labels[kind] if kind < len(labels) else str(kind)
            mask = masks[place] if masks else None
            found.append(Detection(box=box, score=float(scores[number]), label=label, mask=mask))
    return found


def apart(boxes: Tensor, classes: Tensor) -> Tensor:
    """Places among ``boxes`` [n,4], best first, of those that no better one of their class overlaps by over 0.7."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[int] = []
    while len(left) and len(kept) < _MOST:
        best, left = left[0], left[1:]
        kept.append(int(best))
        common = torch.minimum(boxes[best, 2:], boxes[left, 2:]) - torch.maximum(boxes[best, :2], boxes[left, :2])
        shared = common.clamp(min=0).prod(dim=1)
        same = (shared > _OVERLAP * (areas[best] + areas[left] - shared)) & (classes[left] == classes[best])
        left = left[~same]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def _in_picture(box: Tensor, fit: Fit, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box of the network's input in pixels of the picture, cut at its edges."""
    shift = (fit.left, fit.top, fit.left, fit.top)
    left, top, right, bottom = (
        min(max((value - grey) / fit.scale, 0.0), float(most))
        for value, grey, most in zip(box.tolist(), shift, (*size, *size), strict=True)
    )
    return left, top, right, bottom


def _masks(output: Output, kept: Tensor, fit: Fit, size: tuple[int, int]) -> list[Image.Image]:
    """The masks of the kept things in mode L of the picture's size, cut at their boxes; none without segmentation."""
    if output.coefficients is None or output.prototypes is None or not len(kept):
        return []
    height, width = output.prototypes.shape[-2:]
    step = 4  # pixels of the input for each cell of the prototypes
    rows, columns = (torch.arange(length, device=kept.device) for length in (height, width))
    area = (fit.left, fit.top, fit.left + fit.width, fit.top + fit.height)
    found = []
    for number in kept:
        logits = torch.einsum("c,chw->hw", output.coefficients[number], output.prototypes)
        left, top, right, bottom = (output.boxes[number] / step).tolist()
        inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))[None]
        cells = torch.where(inside, logits.sigmoid(), 0.0)
        # Edges between cells are where the share is a half: first to the input's pixels, then to the picture's.
        whole = functional.interpolate(cells[None, None], scale_factor=float(step), mode="bilinear")[0, 0]
        picture = whole[area[1] : area[3], area[0] : area[2]][None, None]
        share = functional.interpolate(picture, (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
        found.append(Image.fromarray(((share > 0.5).to(torch.uint8) * 255).cpu().numpy()))
    return found
