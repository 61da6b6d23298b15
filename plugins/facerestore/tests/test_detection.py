"""The faces are found where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentd_facerestore.detection import detect_faces, find_faces
from latentd_facerestore.faces import suppress
from PIL import Image

from latentd.api import WorkerContext

CONTEXT = WorkerContext(options={})


def test_both_faces_are_found_with_their_landmarks(two_faces):
    found = find_faces(two_faces.image, CONTEXT)
    assert len(found) == 2
    for expected in two_faces.landmarks:
        eyes = np.linalg.norm(expected[0] - expected[1])
        nearest = min(np.linalg.norm(points - expected, axis=1).max() for points in found)
        assert nearest < 0.2 * eyes


def test_a_small_picture_is_searched_enlarged(two_faces):
    small = two_faces.image.resize((225, 175), Image.Resampling.LANCZOS)
    found = find_faces(small, CONTEXT)
    expected = two_faces.landmarks[0] / 4
    assert min(np.linalg.norm(points - expected, axis=1).max() for points in found) < 4


@pytest.mark.parametrize("scale", [1, 0.25])
def test_boxes_hold_the_eyes_and_the_mouth(two_faces, scale):
    image = two_faces.image.resize([int(side * scale) for side in two_faces.image.size], Image.Resampling.LANCZOS)
    found = detect_faces(image, 0.5, CONTEXT)
    assert [one.label for one in found] == ["face"] * len(found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for points in two_faces.landmarks if scale == 1 else two_faces.landmarks[:1]:
        inside = [
            one for one in found
            if (np.array(one.box[:2]) < points.min(0) * scale).all() and (points.max(0) * scale < one.box[2:]).all()
        ]  # fmt: skip
        assert len(inside) == 1
        left, top, right, bottom = inside[0].box
        assert max(right - left, bottom - top) < 4 * np.linalg.norm(points[0] - points[1]) * scale
    assert detect_faces(image, 1.0, CONTEXT) == []


@pytest.mark.parametrize("image", [Image.new("RGB", (300, 200), "white"), Image.linear_gradient("L").convert("RGB")])
def test_there_are_no_faces_where_there_are_none(image):
    assert find_faces(image, CONTEXT) == []


def test_the_search_can_be_left(two_faces):
    def leave() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_faces(two_faces.image, WorkerContext(options={}, check=leave))


def test_of_overlapping_boxes_the_surest_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [2, 2, 5, 5]])
    scores = torch.tensor([0.8, 0.9, 0.7, 0.6])
    assert suppress(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert suppress(boxes, scores, 0.5, over_smaller=True).tolist() == [1, 2]
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []
