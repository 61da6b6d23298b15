"""The detectors: files in ``models/adetailer``, and what plugins offer. This module imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.api import (
    Detection,
    DetectorSpec,
    InvalidRequest,
    JsonValue,
    LatentdError,
    NotConfigured,
    Services,
    blamed,
    find_models,
    install_hint,
    near_matches,
    owner_of,
)
from latentd_detailer.unit import Unit

if TYPE_CHECKING:
    from PIL import Image

    from latentd.api import WorkerContext

KIND = "adetailer"
SUFFIXES = (".pt", ".pth", ".safetensors", ".onnx")
BUILT_IN = "face_mtcnn"
FALLBACK_OPTION = "ad_builtin_face_fallback"
#: Names of face detectors that clients send without asking what there is. What masks eyes alone is none of them.
_FACES = re.compile(r"face_yolov\w+\.pt|mediapipe_face_(full|short|mesh)")
_MEDIAPIPE = "mediapipe"
_SOURCE = "https://huggingface.co/Bingsu/adetailer"
_LISTED_FACES = ("face_yolov8n.pt", "mediapipe_face_full", "mediapipe_face_short", "mediapipe_face_mesh")


def files(services: Services, options: Mapping[str, JsonValue]) -> dict[str, Path]:
    """The detector files by name; of two with the same name the first counts."""
    further = [services.paths.resolve(part) for part in str(options["ad_extra_models_dir"]).split("|") if part.strip()]
    found: dict[str, Path] = {}
    for folder in (*services.paths.models(KIND), *further):
        for file in find_models(folder, SUFFIXES):
            found.setdefault(file.path.name, file.path)
    return found


def names(services: Services) -> list[str]:
    """Every name that ``ad_model`` may have: files, detectors of plugins, and the names that the fallback serves."""
    options = services.options.snapshot()
    listed = [*files(services, options), *services.registry.detectors]
    if options[FALLBACK_OPTION] and BUILT_IN in listed:
        listed += _LISTED_FACES
    return list(dict.fromkeys(listed))


def find(name: str, services: Services, options: Mapping[str, JsonValue]) -> tuple[DetectorSpec, str | None]:
    """The detector of this name, and a sentence if another one stands in for it.

    :raises NotConfigured: a detector that is known is missing; the message names its file and folder.
    :raises InvalidRequest: the name is unknown.
    """
    there = files(services, options)
    if name in there:
        return _file_detector(there[name]), None
    known = services.registry.detectors
    if name in known:
        known[name].check()
        return known[name], None
    if _FACES.fullmatch(name) and options[FALLBACK_OPTION] and BUILT_IN in known:
        return known[BUILT_IN], f"ADetailer: {BUILT_IN} finds the faces, because {name} is missing"
    if name == BUILT_IN:
        raise NotConfigured(f"ADetailer model {name!r} is not installed", hint=install_hint("facerestore"))
    raise _missing(name, services, there)


def _missing(name: str, services: Services, there: Mapping[str, Path]) -> LatentdError:
    if not name.endswith(SUFFIXES) and not name.startswith(_MEDIAPIPE):
        everything = [*there, *services.registry.detectors]
        return InvalidRequest(f"ADetailer model {name!r} not found", hint=near_matches(name, everything))
    hints = [f"{BUILT_IN} needs no file, and serves this name with option {FALLBACK_OPTION}"]
    if name.startswith(_MEDIAPIPE):
        words = "is not available: MediaPipe is not part of latentd"
    else:
        words = f"not found: {name} is missing in {services.paths.models(KIND)[0]}"
        hints.insert(0, f"get it from {_SOURCE}; nothing is downloaded by itself")
    return NotConfigured(
        f"ADetailer model {name!r} {words}", hint="; ".join(hints if _FACES.fullmatch(name) else hints[:-1]) or None
    )


def detect(detector: DetectorSpec, image: Image.Image, unit: Unit, context: WorkerContext) -> list[Detection]:
    """What the detector finds in ``image`` (RGB) of the classes that the unit wants, surest first.

    :raises PluginError: the detector is a plugin's, and failed.
    """
    with blamed(_owner(detector, context.services), f"detector {detector.name!r}"):
        found = list(detector.detect(image, unit.ad_confidence, context))
    return [one for one in found if not unit.classes or one.label.lower() in unit.classes]


def _owner(detector: DetectorSpec, services: Services | None) -> str:
    """The plugin that offers the detector; empty for this one's files."""
    if services is None or services.registry.detectors.get(detector.name) is not detector:
        return ""
    return owner_of(services.registry.detectors, detector.name)


def _file_detector(path: Path) -> DetectorSpec:
    return DetectorSpec(name=path.name, detect=partial(_detect_with_file, path))


def _detect_with_file(path: Path, image: Image.Image, confidence: float, context: WorkerContext) -> list[Detection]:
    from latentd_detailer.yolo.detector import detect_with

    return detect_with(path, image, confidence, context)
