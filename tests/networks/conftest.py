"""A tiny model with Stable Diffusion's module layout, and files laid out as trainers write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from latentd.networks.files import NetworkLibrary, NetworkOnDisk
from latentd.networks.names import Targets, targets_of


def _unet(in_channels: int = 4) -> nn.Module:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return unet.requires_grad_(False)  # type: ignore[no-any-return]


def _text_encoder() -> nn.Module:
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=30, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2
    )
    return CLIPTextModel(config).requires_grad_(False)  # type: ignore[no-any-return]


@pytest.fixture
def tiny_unet() -> Callable[..., nn.Module]:
    """Builds a UNet of two levels; takes ``in_channels``."""
    return _unet


@pytest.fixture
def tiny_text_encoder() -> Callable[[], nn.Module]:
    """Builds a CLIP text model of two layers and width 12."""
    return _text_encoder


@pytest.fixture
def targets() -> Targets:
    return targets_of(_unet(), [_text_encoder()])


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., NetworkOnDisk]:
    """Write a safetensors file and give its library entry."""

    def write(name: str, tensors: Mapping[str, Tensor], **metadata: str) -> NetworkOnDisk:
        save_file(dict(tensors), tmp_path / f"{name}.safetensors", metadata=metadata or None)
        found = NetworkLibrary([tmp_path]).find(name)
        assert found is not None
        return found

    return write
