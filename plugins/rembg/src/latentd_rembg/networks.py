"""The networks by the names of rembg's releases, and the masks that they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentd.api import (
    InvalidRequest,
    ModelLoadError,
    NotConfigured,
    OnnxModel,
    Services,
    WorkerContext,
    find_models,
    install_hint,
    near_matches,
    open_onnx,
)

FOLDER = "u2net"
"""The kind of models, after which their folder is called."""
CLOTHES = 3
"""Kinds of clothes that ``u2net_cloth_seg`` tells apart: upper, lower and full."""

_MEAN = (0.485, 0.456, 0.406)
_IMAGENET = (0.229, 0.224, 0.225)
_NONE = (1.0, 1.0, 1.0)

Plane = NDArray[np.float32]


def _as_given(values: Plane) -> Plane:
    return values


def _sigmoid(values: Plane) -> Plane:
    bounded = np.clip(values, -80, 80)  # exp overflows beyond, where the result is 0 or 1 anyway
    return np.asarray(1 / (1 + np.exp(-bounded)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a network takes pictures and gives masks.

    :ivar side: pixels of the square that it takes, where its file leaves this open.
    :ivar deviation: by which R, G and B are divided after the mean of ImageNet was subtracted.
    :ivar activation: what is done to its output before that is stretched to 0..1.
    """

    side: int = 320
    deviation: tuple[float, float, float] = _IMAGENET
    activation: Callable[[Plane], Plane] = _as_given


_U2NET, _ISNET, _BIREFNET = Kind(), Kind(1024, _NONE), Kind(1024, _IMAGENET, _sigmoid)
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("u2net", "u2netp", "u2net_human_seg", "silueta"), _U2NET),
    "u2net_cloth_seg": Kind(768),
    **dict.fromkeys(("isnet-general-use", "isnet-anime"), _ISNET),
    "bria-rmbg": Kind(1024),
    **dict.fromkeys(
        (
            *("birefnet-general", "birefnet-general-lite", "birefnet-portrait", "birefnet-dis", "birefnet-hrsod"),
            *("birefnet-cod", "birefnet-massive"),
        ),
        _BIREFNET,
    ),
}


def find_weights(services: Services, model: str) -> Path:
    """The file of the network ``model``.

    :raises InvalidRequest: the name is not known. :raises NotConfigured: there is no such file.
    """
    if model not in KINDS:
        raise InvalidRequest(
            f"model {model!r} is not known", hint=near_matches(model, KINDS) or "known: " + ", ".join(KINDS)
        )
    folders = services.paths.models(FOLDER)
    found = (file.path for folder in folders for file in find_models(folder, (".onnx",)) if file.path.stem == model)
    path = next(found, None)
    if path is None:
        raise NotConfigured(
            f"model {model!r} has no weights: {model}.onnx is missing in {folders[0]}",
            hint=f"put {model}.onnx of rembg's release v0.0.0 there; nothing is downloaded by itself",
        )
    return path


def predict_masks(image: Image.Image, model: str, weights: Path, context: WorkerContext) -> list[Image.Image]:
    """What the network takes for foreground: one mask (mode L, of the size of ``image``), or :data:`CLOTHES`.

    :param image: in RGB.
    :raises ModelLoadError: the file is damaged, or of another shape.
    :raises NotConfigured: onnxruntime is missing.
    """

    def load() -> OnnxModel:
        return open_onnx(weights, context.device, install=install_hint("rembg"))

    with context.lease("rembg", weights, load, lambda network: network.nbytes) as network:
        shape = network.shape
        if len(shape) != 4 or shape[1] not in (3, None):
            raise ModelLoadError(f"{weights.name} takes {list(shape)}, not pictures [batch, 3, height, width]")
        kind = KINDS[model]
        size = (shape[3] or kind.side, shape[2] or kind.side)
        given = normalised(image, size, kind.deviation)
        context.check()
        output = network.run(given)[0]
    if output.ndim != 4 or output.shape[0] != 1:
        raise ModelLoadError(f"{weights.name} gives {list(output.shape)}, not masks [1, channels, height, width]")
    planes = _clothes(output[0]) if model == "u2net_cloth_seg" else [stretched(kind.activation(output[0, 0]))]
    return [Image.fromarray(plane).resize(image.size, Image.Resampling.LANCZOS) for plane in planes]


def normalised(image: Image.Image, size: tuple[int, int], deviation: tuple[float, float, float]) -> Plane:
    """The RGB picture as the networks' input [1,3,height,width], from 0 to 1 (its brightest) less the mean.

    :param size: width and height in pixels.
    """
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    scaled = (pixels / max(pixels.max(), 1e-6) - _MEAN) / deviation
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], dtype=np.float32)


def stretched(plane: Plane) -> NDArray[np.uint8]:
    """``plane`` [h,w] from 0, its lowest value, to 255, its highest; all 0 where it is even."""
    low, high = float(plane.min()), float(plane.max())
    if not np.isfinite(high - low):
        raise ModelLoadError("the network gives values that are no numbers")
    span = high - low or 1.0
    return ((plane.astype(np.float64) - low) / span * 255).astype(np.uint8)


def _clothes(output: Plane) -> list[NDArray[np.uint8]]:
    """Masks for channels 1 to 3 of [channels,h,w]: white where that channel is the highest; channel 0 is the rest."""
    if len(output) != CLOTHES + 1:
        raise ModelLoadError(f"u2net_cloth_seg gives {len(output)} channels, not {CLOTHES + 1}")
    highest = output.argmax(axis=0)
    return [np.where(highest == number, 255, 0).astype(np.uint8) for number in range(1, CLOTHES + 1)]
