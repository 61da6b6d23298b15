"""AUTOMATIC1111's own detector and parser are used where their files are: zero weights of their layouts, biases set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentd_facerestore.detection import find_faces
from latentd_facerestore.parsing import FaceParser
from latentd_facerestore.restoring import restore_faces
from PIL import Image
from torch import Tensor

from latentd.api import WorkerContext
from latentd.testing import HeadlessServices


def zeros(*shape: int) -> Tensor:
    """One number, repeated: a file of it stays small."""
    return torch.zeros(1).expand(shape)


def norm(name: str, width: int) -> dict[str, Tensor]:
    values = {f"{name}.{kind}": zeros(width) for kind in ("weight", "bias", "running_mean")}
    return values | {f"{name}.running_var": torch.ones(1).expand(width)}


@pytest.fixture
def retinaface() -> dict[str, Tensor]:
    """A layout in which every cell of the coarsest level sees a face of 512 pixels, its left eye at its top left."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        body = resnet50().state_dict()
    weights = {
        f"body.{key}": zeros(*value.shape) for key, value in body.items() if value.dim() and not key.startswith("fc.")
    }
    weights |= {key: value + 1 for key, value in weights.items() if key.endswith("running_var")}
    for number, width in ((1, 512), (2, 1024), (3, 2048)):
        weights |= {f"fpn.output{number}.0.weight": zeros(256, width, 1, 1)} | norm(f"fpn.output{number}.1", 256)
    for number in (1, 2):
        weights |= {f"fpn.merge{number}.0.weight": zeros(256, 256, 3, 3)} | norm(f"fpn.merge{number}.1", 256)
    parts = {
        "conv3X3": (256, 128),
        "conv5X5_1": (256, 64),
        "conv5X5_2": (64, 64),
        "conv7X7_2": (64, 64),
        "conv7x7_3": (64, 64),
    }
    for number in (1, 2, 3):
        for part, (given, made) in parts.items():
            name = f"ssh{number}.{part}"
            weights |= {f"{name}.0.weight": zeros(made, given, 3, 3)} | norm(f"{name}.1", made)
    for level in range(3):
        for head, width in (("ClassHead", 4), ("BboxHead", 8), ("LandmarkHead", 20)):
            name = f"{head}.{level}.conv1x1"
            weights |= {f"{name}.weight": zeros(width, 256, 1, 1), f"{name}.bias": torch.zeros(width)}
    weights["ClassHead.0.conv1x1.bias"][:] = weights["ClassHead.1.conv1x1.bias"][:] = torch.tensor([9.0, 0, 9, 0])
    weights["ClassHead.2.conv1x1.bias"][:] = torch.tensor([9.0, 0, 0, 9])
    weights["LandmarkHead.2.conv1x1.bias"][10:12] = -2.0
    return {f"module.{key}": value for key, value in weights.items()}


def parsenet(kind: int) -> dict[str, Tensor]:
    """A layout, a sixteenth as wide as the published one, that takes every pixel for class ``kind``."""
    weights: dict[str, Tensor] = {}

    def convolution(name: str, given: int, made: int, *, normed: bool) -> None:
        weights[f"{name}.conv2d.weight"] = zeros(made, given, 3, 3)
        if normed:
            weights.update(norm(f"{name}.norm.norm", made))
        else:
            weights[f"{name}.conv2d.bias"] = torch.zeros(made)

    convolution("encoder.0", 3, 4, normed=False)
    down = [("encoder.1", 4, 8), ("encoder.2", 8, 16), ("encoder.3", 16, 16), ("encoder.4", 16, 16)]
    up = [("decoder.0", 16, 16), ("decoder.1", 16, 16), ("decoder.2", 16, 8), ("decoder.3", 8, 4)]
    for name, given, made in [*down, *((f"body.{n}", 16, 16) for n in range(10)), *up]:
        convolution(f"{name}.conv1", given, made, normed=True)
        convolution(f"{name}.conv2", made, made, normed=True)
        if not name.startswith("body"):
            convolution(f"{name}.shortcut_func", given, made, normed=False)
    convolution("out_mask_conv", 4, 19, normed=False)
    weights["out_mask_conv.conv2d.bias"][kind] = 1.0
    return weights


@pytest.fixture
def context(tmp_path, monkeypatch) -> WorkerContext:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "GFPGAN").mkdir(parents=True)
    return WorkerContext(options={"face_restoration_unload": False}, services=HeadlessServices())


def test_retinaface_is_preferred_and_its_points_are_decoded(context, tmp_path, retinaface):
    torch.save(retinaface, tmp_path / "models" / "GFPGAN" / "detection_Resnet50_Final.pth")
    # Searched at 640 pixels: 20 cells of 32 across.
    found = find_faces(Image.new("RGB", (320, 320), "white"), context)
    assert found
    for eye, *others in found:
        assert np.ptp(others, axis=0).max() < 1e-6
        cell = (others[0] * 2 + 0.5) / 32 - 0.5
        assert np.allclose(cell, cell.round(), atol=0.02)
        assert np.allclose(others[0] - eye, 2 * 0.1 * 512 / 2, atol=0.01)


def test_the_parser_says_what_is_put_back(context, tmp_path, two_faces, write_restorer):
    folder = tmp_path / "models" / "GFPGAN"
    write_restorer(folder / "GFPGANv1.4.safetensors")
    torch.save(parsenet(kind=0), folder / "parsing_parsenet.pth")
    one = two_faces.image.crop((20, 20, 532, 320))
    restored = restore_faces(one, folder / "GFPGANv1.4.safetensors", context, weight=None)
    assert restored.tobytes() == one.tobytes()


def test_what_is_face_is_white_up_to_the_border():
    mask = np.asarray(FaceParser(parsenet(kind=1)).mask(Image.new("RGB", (512, 512))))
    assert (mask[10:-10, 10:-10] == 255).all()
    assert not mask[:10].any()
    assert not mask[:, -10:].any()
