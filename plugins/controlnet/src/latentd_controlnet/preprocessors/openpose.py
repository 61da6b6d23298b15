"""Poses by OpenPose: drawings, and joints in OpenPose's format. Its networks are for non-commercial use only."""

from __future__ import annotations

import json
from collections.abc import Sequence

from latentd.api import JsonValue, WorkerContext
from latentd_controlnet.poses import draw_poses
from latentd_controlnet.preprocessors.pixels import Params, Pixels, at_resolution
from latentd_controlnet.preprocessors.weights import Foreign

_BODY, _HAND, _FACE = "body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"


def body(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Bodies."""
    return _drawn(image, params, context)


def hand(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Bodies and hands."""
    return _drawn(image, params, context, hands=True)


def face(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Bodies and faces."""
    return _drawn(image, params, context, faces=True)


def face_only(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Faces; they are found through bodies, which are not drawn."""
    return _drawn(image, params, context, bodies=False, faces=True)


def full(image: Pixels, params: Params, context: WorkerContext) -> Pixels:
    """Bodies, hands and faces."""
    return _drawn(image, params, context, hands=True, faces=True)


def _drawn(
    image: Pixels, params: Params, context: WorkerContext, *, bodies: bool = True, hands: bool = False,
    faces: bool = False,
) -> Pixels:  # fmt: skip
    """The poses on black; ``params["poses"]``, if given, is called with them as a JSON text."""
    from latentd_controlnet.preprocessors.networks import detector, quiet

    whole = hands or faces
    files = (_BODY, _HAND, _FACE) if whole else (_BODY,)
    found = detector(context, params["module"], "openpose_all" if whole else "openpose_body", *files)
    scaled, cut = at_resolution(image, params["resolution"])
    height, width = scaled.shape[:2]
    with quiet(params["module"]):
        poses = as_openpose(found.detect_poses(scaled, hands, faces), width, height)
    if (tell := params.get("poses")) is not None:
        tell(json.dumps(poses))
    return cut(draw_poses(poses["people"], width, height, bodies=bodies))


def as_openpose(poses: Sequence[Foreign], width: int, height: int) -> dict[str, JsonValue]:
    """``poses`` in OpenPose's format: ``x, y, confidence`` for each joint as shares of the canvas, zeros if missing."""
    people = [
        {
            "pose_keypoints_2d": _flat(pose.body.keypoints),
            "face_keypoints_2d": _flat(pose.face),
            "hand_left_keypoints_2d": _flat(pose.left_hand),
            "hand_right_keypoints_2d": _flat(pose.right_hand),
        }
        for pose in poses
    ]
    return {"people": people, "animals": [], "canvas_height": height, "canvas_width": width}


def _flat(joints: Sequence[Foreign] | None) -> list[float] | None:
    if not joints:
        return None
    triples = ((0.0, 0.0, 0.0) if joint is None else (float(joint.x), float(joint.y), 1.0) for joint in joints)
    return [value for triple in triples for value in triple]
