"""Faces come out upright on the template and go back where they were."""

from __future__ import annotations

import numpy as np
import pytest
from latentd_facerestore.alignment import (
    SIDE,
    TEMPLATE,
    Similarity,
    cut_face,
    feathered_mask,
    fit_similarity,
    paste_face,
)
from PIL import Image


@pytest.mark.parametrize(("scale", "degrees", "shift"), [(1.0, 0, 0j), (0.4, 30, 100 + 20j), (3.0, -75, -40 + 900j)])
def test_a_similarity_is_found_from_its_points(scale, degrees, shift):
    given = Similarity(scale=scale * np.exp(1j * np.radians(degrees)), shift=shift)
    points = given.inverse().apply(TEMPLATE)
    found = fit_similarity(points)
    assert np.allclose(found.apply(points), TEMPLATE)
    assert np.allclose([found.scale, found.shift], [given.scale, given.shift])


def test_the_cut_face_has_its_eyes_where_the_template_has_them(two_faces):
    for landmarks in two_faces.landmarks:
        marked = two_faces.image.copy()
        for x, y in landmarks[:2]:
            marked.paste((255, 0, 255), (round(x) - 2, round(y) - 2, round(x) + 3, round(y) + 3))
        face = np.asarray(cut_face(marked, fit_similarity(landmarks))).astype(int)
        magenta = (face[..., 0] > 200) & (face[..., 2] > 200) & (face[..., 1] < 80)
        for left, right, eye in ((0, 256, TEMPLATE[0]), (256, 512, TEMPLATE[1])):
            rows, columns = np.nonzero(magenta[:, left:right])
            assert np.hypot(columns.mean() + left - eye[0], rows.mean() - eye[1]) < 16


@pytest.mark.parametrize("size", [1.0, 0.25, 4.0])
def test_an_unchanged_face_goes_back_unseen(two_faces, size):
    image = two_faces.image.resize((int(900 * size), int(700 * size)), Image.Resampling.LANCZOS)
    upright = fit_similarity(two_faces.landmarks[0] * size)
    pasted = image.copy()
    paste_face(pasted, cut_face(image, upright), upright)
    difference = np.asarray(pasted).astype(float) - np.asarray(image)
    face = difference[int(60 * size) : int(200 * size), int(170 * size) : int(320 * size)]
    assert 10 * np.log10(255**2 / np.mean(face**2)) > 30


def test_half_a_pixel_is_not_lost():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    upright = Similarity(scale=2 + 0j, shift=0.5 + 0.5j)
    pasted = image.copy()
    paste_face(pasted, cut_face(image, upright), upright)
    assert np.abs(np.asarray(pasted).astype(int) - np.asarray(image).astype(int)).max() <= 1


def test_a_face_at_the_edge_and_one_outside():
    image = Image.new("RGB", (100, 80), "blue")
    white = Image.new("RGB", (SIDE, SIDE), "white")
    paste_face(image, white, Similarity(scale=4 + 0j, shift=256 + 256j))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((99, 79)) == (0, 0, 255)
    before = image.tobytes()
    paste_face(image, white, Similarity(scale=4 + 0j, shift=10_000 + 0j))
    assert image.tobytes() == before


def test_the_mask_is_soft_and_ends_before_the_border():
    mask = np.asarray(feathered_mask()).astype(int)
    assert mask[256, 256] == 255
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    assert np.abs(np.diff(mask[256])).max() < 20
