"""Poses of whole bodies by DWPose: YOLOX finds people, RTMPose finds their 133 joints; both run in OpenCV.

The files are ONNX as published by the authors, who also chose the sizes, thresholds and the order of joints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latentd.api import JsonValue, ModelLoadError, WorkerContext
from latentd_controlnet.poses import draw_poses
from latentd_controlnet.preprocessors.pixels import Params, Pixels, at_resolution
from latentd_controlnet.preprocessors.weights import cached, find_weights

if TYPE_CHECKING:
    from cv2.dnn import Net

Floats = NDArray[np.float32]
DETECTOR, ESTIMATOR = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
#: The side of the detector's square, the grey that fills it beside the picture, and the detector's strides.
SQUARE, GREY, STRIDES = 640, 114, (8, 16, 32)
#: The score from which a box is a person, the score from which it is anything, and the overlap from which two are one.
LEAST_SCORE, ANYTHING, MOST_OVERLAP = 0.3, 0.1, 0.45
#: The estimator's width and height, the factor by which boxes are widened for it, and bins per pixel of its output.
PORTRAIT, PADDING, BINS = (288, 384), 1.25, 2.0
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LEAST_CONFIDENCE = 0.3
#: For each of OpenPose's 18 joints, the number among the estimator's 133; -1 is the neck, between the shoulders.
_BODY = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_SHOULDERS = (5, 6)
#: Joints of the face and the hands, and the eyes of the body, with which OpenPose's faces end.
_FACE, _LEFT, _RIGHT, _EYES = slice(23, 91), slice(91, 112), slice(112, 133), (14, 15)


@dataclass(frozen=True, slots=True, eq=False)
class _Networks:
    detector: Net
    estimator: Net


def whole_body(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Bodies, hands and faces on black; ``params["poses"]``, if given, is called with them as a JSON text."""
    from latentd_controlnet.preprocessors.networks import quiet

    paths = [find_weights(context, params["module"], name) for name in (DETECTOR, ESTIMATOR)]
    networks = cached(context, "dwpose", paths, lambda: _Networks(*(_read(path) for path in paths)))
    scaled, cut = at_resolution(image, params["resolution"])
    height, width = scaled.shape[:2]
    with quiet(params["module"]):
        # Both networks were trained on blue, green, red.
        people = [_person(joints) for joints in _joints(networks, np.ascontiguousarray(scaled[:, :, ::-1]))]
    found = {"people": people, "animals": [], "canvas_height": height, "canvas_width": width}
    if (tell := params.get("poses")) is not None:
        tell(json.dumps(found))
    return cut(draw_poses(people, width, height))


def _read(path: Path) -> Net:
    import cv2

    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise ModelLoadError(f"{path.name} is no ONNX network: {' '.join(str(error).split())[:200]}") from error


def _answers(network: Net, pixels: Floats) -> list[Floats]:
    network.setInput(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32))
    return [np.asarray(answer) for answer in network.forward(network.getUnconnectedOutLayersNames())]


def _joints(networks: _Networks, image: Pixels) -> list[Floats]:
    """``x, y, confidence`` [133,3] in pixels for every person in ``image`` [h,w,3]; empty if there is none."""
    return [_joints_in(networks.estimator, image, box) for box in find_people(networks.detector, image)]


def find_people(network: Net, image: Pixels) -> list[Floats]:
    """Boxes ``left, top, right, bottom`` in pixels of ``image``, by descending score.

    The list is empty if nothing at all is found; if something is found but no person, it has the whole ``image``.
    """
    import cv2

    height, width = image.shape[:2]
    factor = min(SQUARE / height, SQUARE / width)
    inner = cv2.resize(image, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_LINEAR)
    square = np.full((SQUARE, SQUARE, 3), GREY, np.float32)
    square[: inner.shape[0], : inner.shape[1]] = inner
    (found,) = _answers(network, square)[0]
    cells, strides = _cells()
    centre, size = (found[:, :2] + cells) * strides, np.exp(found[:, 2:4]) * strides
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / factor
    scores = found[:, 4:5] * found[:, 5:]
    people = scores[:, 0] > LEAST_SCORE
    if not people.any() and (scores > ANYTHING).any():
        return [np.array([0, 0, width, height], np.float32)]
    return _apart(boxes[people], scores[people, 0])


def _cells() -> tuple[Floats, Floats]:
    """(column and row [n,2] of every cell of the detector's grids, its stride [n,1])."""
    cells, strides = [], []
    for stride in STRIDES:
        side = SQUARE // stride
        rows, columns = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _apart(boxes: Floats, scores: Floats) -> list[Floats]:
    """``boxes`` without those that a box of higher score overlaps by over :data:`MOST_OVERLAP`, in whole pixels."""
    kept: list[Floats] = []
    for box in boxes[np.argsort(-scores, kind="stable")]:
        if all(_overlap(box, other) <= MOST_OVERLAP for other in kept):
            kept.append(box)
    return kept


def _overlap(one: Floats, other: Floats) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) + 1
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2] + 1)) for box in (one, other))
    return shared / (areas - shared)


def _joints_in(network: Net, image: Pixels, box: Floats) -> Floats:
    """``x, y, confidence`` [133,3] of the person in ``box``."""
    import cv2

    width, height = PORTRAIT
    centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * PADDING
    size = np.array([max(size[0], size[1] * width / height), max(size[1], size[0] * height / width)])
    factor = width / size[0]
    shift = np.array([width, height]) / 2 - centre * factor
    matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
    portrait = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    across, down = (answer[0] for answer in _answers(network, (portrait - _MEAN) / _DEVIATION))
    confidence = np.minimum(across.max(axis=1), down.max(axis=1))
    places = np.stack([across.argmax(axis=1), down.argmax(axis=1)], axis=1) / BINS
    places = places / PORTRAIT * size + centre - size / 2
    return np.concatenate([places, confidence[:, None]], axis=1).astype(np.float32)


def _person(joints: Floats) -> dict[str, JsonValue]:
    """``joints`` [133,3] in OpenPose's format and order."""
    shoulders = joints[list(_SHOULDERS)]
    neck = np.append(shoulders[:, :2].mean(axis=0), float((shoulders[:, 2] > LEAST_CONFIDENCE).all()))
    body = [neck if index < 0 else joints[index] for index in _BODY]
    face = list(joints[_FACE])
    return {
        "pose_keypoints_2d": _flat(body) or [0.0] * (3 * len(body)),
        "face_keypoints_2d": _flat([*face, *(body[eye] for eye in _EYES)]) if _flat(face) else None,
        "hand_left_keypoints_2d": _flat(joints[_LEFT]),
        "hand_right_keypoints_2d": _flat(joints[_RIGHT]),
    }


def _flat(joints: Sequence[Floats] | Floats) -> list[float] | None:
    """``x, y, 1`` for every joint, zeros for joints of low confidence; None if all are of low confidence."""
    sure = [float(joint[2]) >= LEAST_CONFIDENCE for joint in joints]
    if not any(sure):
        return None
    pairs = zip(joints, sure, strict=True)
    triples = ((float(joint[0]), float(joint[1]), 1.0) if known else (0.0, 0.0, 0.0) for joint, known in pairs)
    return [value for triple in triples for value in triple]
