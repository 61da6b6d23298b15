"""Imports the libraries whose classes the networks are, which takes seconds."""

from __future__ import annotations

from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: F401
