"""A detector's weight file: its weights by name, and the names of its classes. Nothing of the file's choosing runs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latentd.api import JsonValue, ModelLoadError, load_pickle, read_weights
from latentd_detailer.yolo.network import HEAD, MOST_CLASSES, Yolo

_PREFIX = "model."
_COUNTS = ".num_batches_tracked"
_LONGEST_NAMES, _LONGEST_NAME = 1 << 16, 100


@dataclass(frozen=True, slots=True)
class YoloFile:
    """The weights by name, without prefix, and the names of the classes as far as the file tells them."""

    weights: Mapping[str, Tensor]
    labels: Mapping[int, str]


def load_yolo(path: Path, device: str) -> tuple[Yolo, tuple[str, ...]]:
    """The network in ``path`` on ``device`` in float32, and the names of its classes.

    :raises ModelLoadError: the file is damaged, refused, or no YOLOv8 detector.
    """
    found = read_yolo(path)
    try:
        with torch.device("meta"):
            network = Yolo({name: tuple(tensor.shape) for name, tensor in found.weights.items()})
        weights = {_PREFIX + name: tensor.float().to(device) for name, tensor in found.weights.items()}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                weights[name + _COUNTS] = torch.zeros((), dtype=torch.long, device=device)
        network.load_state_dict(weights, assign=True)
    except (ValueError, RuntimeError) as error:  # torch's words for weights that are missing or of another shape
        raise _other(path, " ".join(str(error).split())[:200]) from error
    classes = found.weights[f"{HEAD}.cv3.0.2.weight"].shape[0]
    return network.eval().requires_grad_(False), labels_for(classes, found.labels)


def read_yolo(path: Path) -> YoloFile:
    """The weights and classes in ``path``: a whole model as it is published, or its weights alone.

    :raises ModelLoadError: the file is damaged, refused, or holds no model.
    """
    if path.suffix == ".safetensors":
        stored = read_weights(path)
        return _named(path, dict(stored), _labels(stored.metadata.get("names")))
    held = load_pickle(path)
    model = next((held[key] for key in ("ema", "model") if isinstance(held.get(key), dict)), held)
    is_module = "__class__" in model
    weights = _weights_of(model, "") if is_module else model.items()
    tensors = {str(name): tensor for name, tensor in weights if isinstance(tensor, Tensor)}
    return _named(path, tensors, _labels(model.get("names") if is_module else held.get("names")))


def labels_for(count: int, told: Mapping[int, str]) -> tuple[str, ...]:
    """The names of ``count`` classes; those without a name have their number."""
    return tuple(told.get(number, str(number)) for number in range(count))


def read_labels(text: str | None) -> dict[int, str]:
    """The names of classes in the text of a dictionary, as exported files have it; empty if it is none."""
    if not text or len(text) > _LONGEST_NAMES:
        return {}
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return _labels(ast.literal_eval(text))
    return {}


def _named(path: Path, tensors: Mapping[str, Tensor], labels: Mapping[int, str]) -> YoloFile:
    """The weights without the prefix, which is there once in weights alone and in whole models.

    :raises ModelLoadError: there is none with the names of such a network.
    """
    below = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if not name.endswith(_COUNTS)}
    if f"{HEAD}.dfl.conv.weight" not in below:
        raise _other(path, "its last layer is not where that of YOLOv8 is")
    return YoloFile(below, labels)


def _other(path: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path.name} is no YOLOv8 detector: {reason}",
        hint="of other networks an ONNX export works: yolo export format=onnx",
    )


def _weights_of(module: Mapping[str, JsonValue], prefix: str) -> Iterator[tuple[str, JsonValue]]:
    """The parameters and buffers of a module that was read as its attributes, by their names in torch."""
    for kind in ("_parameters", "_buffers"):
        held = module.get(kind)
        for name, tensor in held.items() if isinstance(held, dict) else ():
            yield f"{prefix}{name}", tensor
    parts = module.get("_modules")
    for name, part in parts.items() if isinstance(parts, dict) else ():
        if isinstance(part, dict):
            yield from _weights_of(part, f"{prefix}{name}.")


def _labels(told: JsonValue) -> dict[int, str]:
    """The names of classes by number, from a dictionary, a list or JSON; empty from anything else."""
    if isinstance(told, str):
        with suppress(ValueError, RecursionError):
            told = json.loads(told[:_LONGEST_NAMES])
    if isinstance(told, list | tuple):
        told = dict(enumerate(told))
    found: dict[int, str] = {}
    for key, name in list(told.items())[:MOST_CLASSES] if isinstance(told, dict) else ():
        with suppress(TypeError, ValueError):
            found[int(key)] = str(name)[:_LONGEST_NAME]
    return found
