"""Guessing, for error messages, what a file in the wrong folder is, from its first bytes or its tensors' names.

Nothing else depends on these guesses. This module imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from latentd.errors import ModelLoadError
from latentd.regular import open_regular

_START = 512
_DOWNLOAD = "download the file itself"
_UNPACK = "unpack it"

#: First bytes in lower case, without leading white space; what such a file is; what to do about it.
_BEGINNINGS: tuple[tuple[bytes, str, str | None], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, which only names the file", "fetch the file with git lfs pull"),
    (b"version https://hawser", "a Git LFS pointer, which only names the file", "fetch the file with git lfs pull"),
    (b"<!doctype html", "a web page, perhaps that of a login", _DOWNLOAD),
    (b"<html", "a web page, perhaps that of a login", _DOWNLOAD),
    (b"<?xml", "an XML document, perhaps an error of the download", _DOWNLOAD),
    (b"{", "a JSON text, perhaps an error of the download", _DOWNLOAD),
    (b"[", "a JSON text, perhaps an error of the download", _DOWNLOAD),
    (b"\x89png", "a PNG picture", None),
    (b"\xff\xd8\xff", "a JPEG picture", None),
    (b"gguf", "a GGUF file", "latentd reads .safetensors, and .ckpt and .pt"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"rar!", "a RAR archive", _UNPACK),
)

_LORA = re.compile(
    r"lora[._](?:up|down|mid|A|B)\b|_lora\.(?:up|down)|lora_(?:up|down|A|B)\.|lora_linear_layer|hada_w|lokr_w|"
    r"oft_(?:blocks|diag|R)|dora_scale|\.diff(?:_b)?$"
)

#: Words in the names of a LoRA's tensors, dots as underscores, and the model they are of; the first that fits counts.
_LORA_MODELS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lora_prior_",), "Stable Cascade"),
    (("motion_modules",), "AnimateDiff's motion module"),
    (("joint_blocks",), "Stable Diffusion 3"),
    (("single_transformer_blocks", "double_blocks", "single_blocks"), "FLUX"),
    (("img_mod", "txt_mod"), "Qwen-Image"),
    (("context_refiner", "noise_refiner"), "Lumina or Z-Image"),
    (("adaln_single",), "PixArt"),
    (("attn_add_q_proj", "attn_add_k_proj"), "Stable Diffusion 3"),
    (("blocks_0_cross_attn", "blocks_0_self_attn"), "Wan"),
    (("layers_0_self_attn_o_proj", "layers_0_mlp_gate_proj"), "a language model"),
    (("lora_te2_", "text_encoder_2_", "clip_g_"), "SDXL"),
)
#: Input widths of the UNet's cross-attention, and the model that has them.
_CONTEXT_WIDTHS = {768: "SD 1", 1024: "SD 2", 2048: "SDXL", 1280: "SDXL's refiner"}
_CROSS_KEYS = re.compile(r"attn2[._]to_k\b.*(?:lora[._](?:down|A)|_lora\.down)|attn2_to_k\.lora_down")

#: How names of other weights begin, and what they are of; the first that fits counts.
_WEIGHTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("control_model.", "lora_controlnet", "controlnet_cond_embedding.", "input_hint_block."), "a ControlNet"),
    (("image_proj.", "ip_adapter."), "an IP-Adapter"),
    (("adapter.body.", "body.0.block1."), "a T2I-Adapter"),
    (("model.diffusion_model.double_blocks.", "double_blocks."), "a FLUX checkpoint"),
    (("model.diffusion_model.joint_blocks.", "joint_blocks."), "a Stable Diffusion 3 checkpoint"),
    (("model.diffusion_model.",), "a whole checkpoint"),
    (("string_to_param", "emb_params", "clip_l", "clip_g", "<"), "an embedding"),
    (("first_stage_model.", "decoder.conv_in.", "decoder.layers.", "encoder.conv_in."), "a VAE"),
    (("down_blocks.", "input_blocks."), "a UNet by itself"),
    (("text_model.encoder.", "transformer.resblocks.", "encoder.block.0."), "a text encoder"),
    (("model.0.", "model.1.sub.", "conv_first.", "RRDB_trunk.", "body.0."), "an upscaler"),
    (("vision_model.", "visual."), "an image encoder"),
)


#: Beginnings of kinds, and the folder for files of it.
_FOLDERS = {
    "a LoRA": "models/Lora",
    "a VAE": "models/VAE",
    "an embedding": "embeddings",
    "a ControlNet": "models/ControlNet",
    "an IP-Adapter": "models/ControlNet",
    "a T2I-Adapter": "models/ControlNet",
    "an upscaler": "models/ESRGAN",
    "a whole checkpoint": "models/Stable-diffusion",
}


def unreadable(path: Path, words: str, error: object) -> ModelLoadError:
    """The error for a file that is not what its name says.

    :param words: what is wrong, such as "is not a readable safetensors file".
    :param error: the error of the reader, quoted if the file's first bytes do not show what it is.
    """
    kind, advice = _beginning(path)
    reason = f"it looks like {kind}" if kind else " ".join(str(error).split())[:300]
    return ModelLoadError(f"{path.name} {words}: {reason}", hint=advice)


def _beginning(path: Path) -> tuple[str | None, str | None]:
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError:
        return None, None
    if not start:
        return "an empty file", _DOWNLOAD
    if start.startswith(b"PK\x03\x04") and path.suffix.lower() == ".safetensors":
        return "a zip archive, as torch saves pickles", "name it .ckpt or .pt if it is one"
    lower = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = ((kind, advice) for beginning, kind, advice in _BEGINNINGS if lower.startswith(beginning))
    return next(found, (None, None))


def weights_kind(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What weights with these names and shapes look like: ``a VAE``, ``a LoRA for FLUX``; None if that is unknown."""
    if any(_LORA.search(key) for key in shapes):
        model = _lora_model(shapes)
        return f"a LoRA for {model}" if model else "a LoRA"
    return next((kind for starts, kind in _WEIGHTS if any(key.startswith(starts) for key in shapes)), None)


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """:func:`weights_kind` as the hint of an error, with the folder where such a file belongs."""
    kind = weights_kind(shapes)
    if kind is None:
        return None
    folder = next((folder for begin, folder in _FOLDERS.items() if kind.startswith(begin)), None)
    return f"it looks like {kind}" + (f", which belongs into {folder}" if folder else "")


def _lora_model(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    flat = [key.replace(".", "_") for key in shapes]
    for words, model in _LORA_MODELS:
        if any(word in key for key in flat for word in words):
            return model
    for key, shape in shapes.items():
        if len(shape) > 1 and shape[1] in _CONTEXT_WIDTHS and _CROSS_KEYS.search(key):
            return _CONTEXT_WIDTHS[shape[1]]
    return None
