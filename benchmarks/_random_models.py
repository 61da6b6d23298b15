"""Models of real size with random weights, as folders of diffusers; speed does not depend on the values of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

Size = Literal["sd15", "tiny"]
#: The shape of Stable Diffusion 1.5; "tiny" is for trying a benchmark out.
_UNET: dict[str, dict[str, Any]] = {
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "tiny": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 64, "attention_head_dim": 8},
}
_VAE = {"sd15": (128, 256, 512, 512), "tiny": (32, 32, 32, 32)}
_TEXT: dict[str, dict[str, Any]] = {
    "sd15": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
}

_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "linspace",
}


def random_controlnet(folder: Path) -> Path:
    """A ControlNet for the model in ``folder``, as diffusers begins the training of one; its folder, kept beside it."""
    import diffusers

    target = folder.with_name(f"{folder.name}-controlnet")
    if not (target / "config.json").is_file():
        library: Any = diffusers  # it has untyped functions
        unet = library.UNet2DConditionModel.from_pretrained(folder / "unet")
        library.ControlNetModel.from_unet(unet).to(torch.float16).save_pretrained(target)
    return target


def random_folder(folder: Path, size: Size = "sd15", *, dtype: torch.dtype = torch.float16) -> Path:
    """A model of the shape of Stable Diffusion 1.5 in ``folder``; written only if it is not there yet.

    :param dtype: of the weights in the files: 2.1 GB in float16 at full size.
    """
    import diffusers
    import transformers

    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(0)
    widths = _VAE[size]
    vae = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 2,
        "scaling_factor": 0.18215,
    }
    text = transformers.CLIPTextConfig(vocab_size=49408, hidden_act="quick_gelu", **_TEXT[size])
    # These libraries have no types, or untyped functions.
    parts: dict[str, Any] = {
        "unet": _made(diffusers, "UNet2DConditionModel", **_UNET[size]).to(dtype),
        "vae": _made(diffusers, "AutoencoderKL", **vae).to(dtype),
        "text_encoder": _made(transformers, "CLIPTextModel", config=text).to(dtype),
        "scheduler": _made(diffusers, "EulerDiscreteScheduler", **_SCHEDULE),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def _made(package: Any, name: str, **configuration: Any) -> Any:
    return getattr(package, name)(**configuration)
