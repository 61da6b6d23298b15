"""A photograph of one face pasted twice, and a small restorer that paints every face in one colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentd.testing import latentd_app

__all__ = ["latentd_app"]

# Where eyes, nose and corners of the mouth are in scikit-image's astronaut, read off the picture by eye.
ASTRONAUT = np.array([[204.0, 102.0], [248.0, 104.0], [226.0, 129.0], [202.0, 140.0], [246.0, 142.0]])
GREEN = (26, 204, 51)


@dataclass(frozen=True)
class TwoFaces:
    """A picture, and the landmarks [5,2] of its faces."""

    image: Image.Image
    landmarks: tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def two_faces() -> TwoFaces:
    """The astronaut upright at full size, and at half size, turned by 15 degrees."""
    from skimage import data

    photo = Image.fromarray(data.astronaut())
    canvas = Image.new("RGB", (900, 700), (90, 110, 100))
    canvas.paste(photo, (20, 20))
    side, degrees, left, top = 260, 15, 560, 300
    small = photo.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    turned = small.rotate(degrees, expand=True, resample=Image.Resampling.BICUBIC)
    canvas.paste(turned, (left, top), turned)
    # Counter-clockwise on the screen, where y points down.
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    about = ASTRONAUT * side / photo.width - side / 2
    second = about @ turn.T + np.array(turned.size) / 2 + (left, top)
    return TwoFaces(image=canvas, landmarks=(ASTRONAUT + 20, second))


@pytest.fixture(scope="session")
def green() -> np.ndarray:
    """The colour in which :func:`write_restorer`'s network paints."""
    return np.array(GREEN)


@pytest.fixture(scope="session")
def write_restorer() -> Callable[[Path], None]:
    """Writes a face restorer to a path."""
    return _write_restorer


def _write_restorer(path: Path) -> None:
    """A RestoreFormer (a face restorer that spandrel knows) whose last layer gives :data:`GREEN` whatever it sees."""
    from spandrel.architectures.RestoreFormer import RestoreFormer

    torch.manual_seed(0)
    module = RestoreFormer(
        n_embed=16,
        embed_dim=32,
        ch=32,
        out_ch=3,
        ch_mult=(1, 1, 1, 1, 1, 1),
        num_res_blocks=1,
        attn_resolutions=(16,),
        dropout=0.0,
        in_channels=3,
        resolution=512,
        z_channels=32,
        double_z=False,
        enable_mid=True,
        head_size=8,
    )
    weights = module.state_dict()
    weights["decoder.conv_out.weight"].zero_()
    weights["decoder.conv_out.bias"].copy_(torch.tensor(GREEN) / 127.5 - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path)
