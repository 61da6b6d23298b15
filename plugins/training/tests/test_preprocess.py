"""Folders of pictures prepared for training."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from latentd_training.crops import FocusWeights, about_focus, best_size, split
from PIL import Image

Post = Callable[..., Any]


@pytest.fixture
def source(data: Path) -> Path:
    """A folder with an oblong picture, a square one with a text, and a broken one."""
    folder = data / "train/raw"
    if not folder.exists():
        folder.mkdir()
        Image.new("RGB", (300, 100), (1, 2, 3)).save(folder / "oblong.png")
        Image.linear_gradient("L").convert("RGB").save(folder / "square.png")
        (folder / "square.txt").write_text("a gradient")
        (folder / "broken.png").write_bytes(b"nothing")
    return folder


def test_pictures_are_cut_mirrored_and_keep_their_texts(post: Post, data: Path, source: Path) -> None:
    fields = {"process_width": 64, "process_height": 64, "preprocess_txt_action": "copy", "process_flip": True}
    reply = post("preprocess", process_src="raw", process_dst="ready", process_split=True, **fields)
    assert reply["info"] == "preprocess complete"
    assert reply["warnings"] == ["broken.png is left out: Invalid encoded image"]
    written = sorted(p.name for p in (data / "train/ready").glob("*.png"))
    # The oblong one in four parts, the square one whole, each mirrored too.
    assert len(written) == 10
    sizes = {Image.open(data / "train/ready" / name).size for name in written}
    assert sizes == {(64, 64)}
    texts = [p.read_text() for p in (data / "train/ready").glob("*.txt")]
    assert texts == ["a gradient", "a gradient"]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"process_src": "/etc"}, 422, "process_src"),
        ({"process_dst": "raw"}, 422, "process_dst"),
        ({"process_dst": "../out"}, 422, "process_dst"),
        ({"process_caption": True}, 422, "process_caption"),
        ({"process_focal_crop_debug": True}, 422, "process_focal_crop_debug"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    server: Any, source: Path, fields: dict[str, Any], status: int, word: str
) -> None:
    body = {"process_src": "raw", "process_dst": "ready", **fields}
    reply = server.post("/sdapi/v1/preprocess", json=body)
    assert (reply.status_code, word in reply.json()["detail"]) == (status, True), reply.text


def test_parts_of_a_split_cover_the_picture_and_overlap() -> None:
    columns = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    parts = split(Image.fromarray(columns), 64, 64, threshold=0.5, overlap=0.2)
    edges = [(int(np.asarray(part)[0, 0]), int(np.asarray(part)[0, -1])) for part in parts]
    assert (edges[0][0], edges[-1][1]) == (0, 255)
    assert all(after[0] < before[1] - 0.2 * 64 + 2 for before, after in pairwise(edges))


def test_the_focus_is_where_something_is() -> None:
    picture = np.zeros((64, 256, 3), dtype=np.uint8)
    picture[16:48, 200:240] = np.random.default_rng(0).integers(0, 255, (32, 40, 3))
    cut = np.asarray(about_focus(Image.fromarray(picture), 64, 64, FocusWeights()))
    assert cut[16:48].any(axis=(0, 2)).sum() == 40


def test_the_size_that_fits_best() -> None:
    bounds = {"sides": (384, 768), "areas": (64 * 64, 640 * 640), "threshold": 0.1}
    assert best_size((1000, 1000), largest=True, **bounds) == (640, 640)
    assert best_size((1600, 900), largest=False, **bounds) == (704, 384)
    assert best_size((5000, 100), largest=True, **bounds) is None
