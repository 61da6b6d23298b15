"""A tiny Stable Diffusion model as a pip package: a checkpoint, a canny ControlNet and a 4x upscaler for latentd."""

from __future__ import annotations

import json
from pathlib import Path

from latentd.api import ModelFile, hookimpl

MODELS = Path(__file__).parent / "models"


def motifs() -> list[str]:
    """The names of the things the model can draw."""
    entries = json.loads((MODELS.parent / "motifs.json").read_text(encoding="utf-8"))
    return [entry["name"] for entry in entries]


@hookimpl
def register_checkpoints() -> list[ModelFile]:
    """The package's weight files that exist."""
    files = [
        ModelFile(path=MODELS / "latentd-tiny.safetensors", name="latentd-tiny.safetensors", default=True),
        ModelFile(
            path=MODELS / "latentd-tiny-canny.safetensors", name="latentd-tiny-canny.safetensors", kind="controlnet"
        ),
        ModelFile(path=MODELS / "latentd-tiny-x4.safetensors", name="latentd-tiny-x4.safetensors", kind="upscaler"),
    ]
    return [file for file in files if file.path.is_file()]
