"""Drawing poses from OpenPose's JSON on black: limbs as coloured ellipses, joints as dots, hands and faces."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence

import numpy as np

from latentd.api import JsonValue
from latentd_controlnet.preprocessors.pixels import Pixels

#: Pairs of OpenPose's 18 joints that make limbs, and eighteen colours around the wheel.
_LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
          (0, 14), (14, 16), (0, 15), (15, 17))  # fmt: skip
_COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
#: Bones of a hand's 21 joints: five fingers of four bones from the wrist.
_BONES = tuple((0 if joint == 0 else 4 * f + joint, 4 * f + joint + 1) for f in range(5) for joint in range(4))
LIMB_WIDTH = 4
MOST_PEOPLE = 100
Joint = tuple[float, float] | None


def draw_poses(people: Sequence[Mapping[str, JsonValue]], width: int, height: int, *, bodies: bool = True) -> Pixels:
    """RGB [height,width,3] with the poses of ``people``; joints with confidence 0 are left out."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in people[:MOST_PEOPLE]:
        if bodies:
            canvas = _body(canvas, _joints(person.get("pose_keypoints_2d"), width, height))
        for side in ("left", "right"):
            canvas = _hand(canvas, _found(_joints(person.get(f"hand_{side}_keypoints_2d"), width, height)))
        canvas = _dots(canvas, _found(_joints(person.get("face_keypoints_2d"), width, height)), (255, 255, 255), 3)
    return canvas


def _found(joints: list[Joint]) -> list[Joint]:
    """``joints`` without those at the edge, which in hands and faces mean that a joint was not found."""
    return [joint if joint is not None and min(joint) >= 1 else None for joint in joints]


def _joints(flat: JsonValue, width: int, height: int) -> list[Joint]:
    """Pixel positions from ``x, y, confidence`` triples, in pixels or as shares of the canvas."""
    if not isinstance(flat, Sequence):
        return []
    numbers = [float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0 for value in flat]
    triples = [numbers[i : i + 3] for i in range(0, len(numbers) - 2, 3)]
    shares = all(abs(x) <= 1 and abs(y) <= 1 for x, y, _ in triples)
    scale = (width, height) if shares else (1, 1)
    return [(_inside(x * scale[0]), _inside(y * scale[1])) if c > 0 else None for x, y, c in triples]


def _inside(value: float) -> float:
    return min(max(value, -16384.0), 16384.0)


def _body(canvas: Pixels, joints: list[Joint]) -> Pixels:
    import cv2

    for (start, end), colour in zip(_LIMBS, _COLOURS, strict=False):
        a, b = (joints[i] if i < len(joints) else None for i in (start, end))
        if a is None or b is None:
            continue
        centre = int((a[0] + b[0]) / 2), int((a[1] + b[1]) / 2)
        length, angle = math.dist(a, b), math.degrees(math.atan2(a[1] - b[1], a[0] - b[0]))
        polygon = np.asarray(cv2.ellipse2Poly(centre, (int(length / 2), LIMB_WIDTH), int(angle), 0, 360, 1))
        cv2.fillConvexPoly(canvas, polygon, [int(c * 0.6) for c in colour])
    for joint, colour in zip(joints, _COLOURS, strict=False):
        canvas = _dots(canvas, [joint], colour, LIMB_WIDTH)
    return canvas


def _hand(canvas: Pixels, joints: list[Joint]) -> Pixels:
    import cv2

    for number, (start, end) in enumerate(_BONES):
        a, b = (joints[i] if i < len(joints) else None for i in (start, end))
        if a is not None and b is not None:
            colour = [int(c * 255) for c in colorsys.hsv_to_rgb(number / len(_BONES), 1.0, 1.0)]
            cv2.line(canvas, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), colour, thickness=2)
    return _dots(canvas, joints, (0, 0, 255), 4)


def _dots(canvas: Pixels, joints: list[Joint], colour: Sequence[int], radius: int) -> Pixels:
    import cv2

    for joint in joints:
        if joint is not None:
            cv2.circle(canvas, (int(joint[0]), int(joint[1])), radius, [int(c) for c in colour], thickness=-1)
    return canvas
