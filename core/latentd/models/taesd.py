"""TAESD: tiny networks that replace Stable Diffusion's VAE, an encoder and a decoder.

Source: the layout of the weight files at github.com/madebyollin/taesd (``taesd_decoder.pth`` and so on), whose keys
are places in one row of layers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from latentd.errors import ModelLoadError
from latentd.models.files.state_dict import open_state_dict
from latentd.models.loading.build import assemble

TaesdPart = Literal["decoder", "encoder"]

WIDTH = 64
LATENT_CHANNELS = 4
STAGES = 3  # halvings of a picture's side down to its latent
BLOCKS = 3  # blocks before each doubling and after each halving


class SoftClamp(nn.Module):
    """Limits latents smoothly to the range from -3 to 3."""

    def forward(self, x: Tensor) -> Tensor:
        """``3·tanh(x/3)``."""
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions whose input is added to their output."""

    def __init__(self) -> None:
        super().__init__()
        rows: list[nn.Module] = [_conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH)]
        self.conv = nn.Sequential(*rows)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B,64,h,w] for ``x`` of the same shape."""
        return torch.relu(self.conv(x) + x)


def make_taesd(part: TaesdPart) -> nn.Sequential:
    """The network without weights: latents [B,4,h,w] to pictures [B,3,8h,8w] in 0 to 1, or back."""
    rows: list[nn.Module]
    if part == "decoder":
        rows = [SoftClamp(), _conv(LATENT_CHANNELS, WIDTH), nn.ReLU()]
        for _ in range(STAGES):
            rows += [*(Block() for _ in range(BLOCKS)), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)]
        return nn.Sequential(*rows, Block(), _conv(WIDTH, 3))
    rows = [_conv(3, WIDTH), Block()]
    for _ in range(STAGES):
        rows += [_conv(WIDTH, WIDTH, stride=2, bias=False), *(Block() for _ in range(BLOCKS))]
    return nn.Sequential(*rows, _conv(WIDTH, LATENT_CHANNELS))


def load_taesd(path: Path, part: TaesdPart, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network of ``path``, in eval mode.

    :raises ModelLoadError: the file is damaged or holds another network.
    """
    weights = open_state_dict(path)
    try:
        return assemble(partial(make_taesd, part), weights, device, dtype)
    except ModelLoadError as error:
        raise ModelLoadError(f"{path.name} is no TAESD {part}", hint=error.detail) from error


def taesd_file(part: TaesdPart, *, sdxl: bool) -> str:
    """The name of the file of weights in AUTOMATIC1111."""
    return f"taesd{'xl' if sdxl else ''}_{part}.pth"


def _conv(into: int, out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1, stride=stride, bias=bias)
