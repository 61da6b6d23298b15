"""Detector files of random numbers, in the form in which Ultralytics saves whole models, without its package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

#: Widths of the five stages, and bottlenecks of the C2f blocks: YOLOv8n has (16, 32, 64, 128, 256) and (1, 2, 2, 1).
NANO = (16, 32, 64, 128, 256)
TINY = (4, 8, 8, 8, 8)
BINS = 16


def convolution(inner: int, outer: int, side: int = 3, stride: int = 1) -> nn.Module:
    module = nn.Module()
    module.conv = nn.Conv2d(inner, outer, side, stride, side // 2, bias=False)
    module.bn = nn.BatchNorm2d(outer, eps=1e-3)
    module.act = nn.SiLU(inplace=True)
    return module


def block(inner: int, outer: int, count: int) -> nn.Module:
    module, half = nn.Module(), outer // 2
    module.c = half
    module.cv1, module.cv2 = convolution(inner, outer, 1), convolution((2 + count) * half, outer, 1)
    module.m = nn.ModuleList()
    for _ in range(count):
        bottleneck = nn.Module()
        bottleneck.cv1, bottleneck.cv2, bottleneck.add = convolution(half, half), convolution(half, half), True
        module.m.append(bottleneck)
    return module


def pooling(width: int) -> nn.Module:
    module = nn.Module()
    module.cv1, module.cv2 = convolution(width, width // 2, 1), convolution(width * 2, width, 1)
    module.m = nn.MaxPool2d(5, 1, 2)
    return module


def branches(levels: list[int], width: int, outer: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(convolution(inner, width), convolution(width, width), nn.Conv2d(width, outer, 1))
        for inner in levels
    )


def head(levels: list[int], classes: int, *, segments: bool) -> nn.Module:
    module = nn.Module()
    module.cv2 = branches(levels, max(16, levels[0] // 4, 4 * BINS), 4 * BINS)
    module.cv3 = branches(levels, max(levels[0], min(classes, 100)), classes)
    module.dfl = nn.Module()
    module.dfl.conv = nn.Conv2d(BINS, 1, 1, bias=False)
    module.dfl.conv.weight.data = torch.arange(BINS, dtype=torch.float).reshape(1, BINS, 1, 1)
    if segments:
        width = levels[0]
        module.proto = nn.Module()
        module.proto.cv1, module.proto.cv2 = convolution(levels[0], width), convolution(width, width)
        module.proto.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        module.proto.cv3 = convolution(width, 32, 1)
        module.cv4 = branches(levels, max(levels[0] // 4, 32), 32)
    return module


def whole(widths: tuple[int, ...] = TINY, classes: int = 1, *, segments: bool = False, seed: int = 0) -> nn.Module:
    """A YOLOv8 of these widths with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    a, b, c, d, e = widths
    layers = [
        convolution(3, a, 3, 2), convolution(a, b, 3, 2), block(b, b, 1), convolution(b, c, 3, 2), block(c, c, 2),
        convolution(c, d, 3, 2), block(d, d, 2), convolution(d, e, 3, 2), block(e, e, 1), pooling(e),
        nn.Upsample(scale_factor=2), nn.Module(), block(e + d, d, 1), nn.Upsample(scale_factor=2), nn.Module(),
        block(d + c, c, 1), convolution(c, c, 3, 2), nn.Module(), block(c + d, d, 1), convolution(d, d, 3, 2),
        nn.Module(), block(d + e, e, 1), head([c, d, e], classes, segments=segments),
    ]  # fmt: skip
    model = nn.Module()
    model.model = nn.Sequential(*layers)
    return model.eval()


def save(path: Path, model: nn.Module, names: dict[int, str]) -> Path:
    """Write ``model`` as Ultralytics does: the object itself, in half precision, of classes of its package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _package() as classes:
        for module in model.modules():
            if type(module) is nn.Module:
                module.__class__ = classes.Conv if hasattr(module, "bn") else classes.C2f
        model.__class__ = classes.DetectionModel
        model.names, model.stride, model.yaml = names, torch.tensor([8.0, 16.0, 32.0]), {"nc": len(names), "scale": "n"}
        model.args = classes.IterableSimpleNamespace(task="detect", data=Path("a") / "b.yaml")
        held = {
            "epoch": -1,
            "best_fitness": None,
            "model": model.half(),
            "ema": None,
            "updates": None,
            "version": "8.0",
        }
        torch.save({**held, "train_args": {"imgsz": 640}, "date": "2023-05-01T00:00:00"}, path)
    return path


@contextmanager
def _package() -> Iterator[Any]:
    """Modules with the names of those that such files mention, for as long as one is written."""
    made: dict[str, type] = {}
    names = {"ultralytics.nn.tasks": "DetectionModel", "ultralytics.nn.modules.conv": "Conv",
             "ultralytics.nn.modules.block": "C2f"}  # fmt: skip
    modules = {"ultralytics": ModuleType("ultralytics"), "ultralytics.utils": ModuleType("ultralytics.utils")}
    for place, name in names.items():
        made[name] = type(name, (nn.Module,), {"__module__": place})
        modules[place] = ModuleType(place)
        setattr(modules[place], name, made[name])
    settings = type("IterableSimpleNamespace", (SimpleNamespace,), {"__module__": "ultralytics.utils"})
    made["IterableSimpleNamespace"] = modules["ultralytics.utils"].IterableSimpleNamespace = settings
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield SimpleNamespace(**made)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
