"""Maps from the names in checkpoints to the names of modules of diffusers and transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from latentd.models.files.state_dict import StateDict, from_tensors
from latentd.models.loading.unet_layout import RESNET_PARTS, UNetLayout

_VAE_MIDDLE = {
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1": "mid_block.attentions.0",
}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(block\.(\d+)|downsample|upsample)\.(.+)")
_OPENCLIP_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_OPENCLIP_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_OPENCLIP_OUTER = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


def unet_to_diffusers(weights: StateDict, layout: UNetLayout) -> StateDict:
    """UNet ``weights`` (LDM keys) under diffusers' names."""
    modules = layout.module_names()
    return weights.renamed({new: key for key in weights if (new := unet_key(key, modules)) is not None})


def unet_key(key: str, modules: Mapping[str, str]) -> str | None:
    """The name in diffusers of the LDM key or module path ``key``, or None if it has none.

    :param modules: from :meth:`UNetLayout.module_names`.
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = modules.get(".".join(parts[:length]))
        if found is None:
            continue
        rest = ".".join(parts[length:])
        if ".resnets." in found:
            rest = _replace_start(rest, RESNET_PARTS)
        return f"{found}.{rest}" if rest else found
    return None


def vae_to_diffusers(weights: StateDict) -> StateDict:
    """VAE ``weights`` under ``AutoencoderKL``'s names: LDM's keys are mapped, those of diffusers (old and new) kept."""
    return _squeeze_attention(weights.renamed(vae_names(weights)))


def vae_names(keys: Iterable[str]) -> dict[str, str]:
    """``AutoencoderKL``'s name → key, for the ``keys`` of a VAE in either naming; other keys are left out."""
    parts = [key for key in keys if key.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))]
    if not is_ldm_vae(parts):
        return {_modern_vae_key(key): key for key in parts}
    levels = 1 + max(int(match[3]) for key in parts if (match := _VAE_BLOCK.match(key)))
    return {vae_key(key, levels): key for key in parts}


def is_ldm_vae(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are LDM's names of a VAE."""
    return any(key.startswith(("encoder.down.", "decoder.up.")) for key in keys)


def vae_key(key: str, levels: int) -> str:
    """The diffusers name of the LDM key ``key`` of a VAE with ``levels`` resolutions; unknown keys are kept."""
    if match := _VAE_BLOCK.match(key):
        side, direction, level, _, block, rest = match.groups()
        index = int(level) if direction == "down" else levels - 1 - int(level)
        head = f"{side}.{direction}_blocks.{index}"
        if block is None:
            return f"{head}.{direction}samplers.0.{rest}"
        return f"{head}.resnets.{block}.{_replace_start(rest, {'nin_shortcut': 'conv_shortcut'})}"
    side, _, rest = key.partition(".")
    if side in ("encoder", "decoder"):
        for old, new in _VAE_MIDDLE.items():
            if rest.startswith(f"{old}."):
                tail = rest[len(old) + 1 :]
                parts = _VAE_ATTENTION if "attn" in old else {"nin_shortcut": "conv_shortcut"}
                return f"{side}.{new}.{_replace_start(tail, parts)}"
        return f"{side}.{_replace_start(rest, {'norm_out': 'conv_norm_out'})}"
    return key


def clip_to_transformers(weights: StateDict) -> StateDict:
    """CLIP text ``weights`` under ``CLIPTextModel``'s names of transformers 5, which has no ``text_model.``.

    Both spellings are accepted; the buffer of position ids in old files is dropped.
    """
    names = {key.removeprefix("text_model."): key for key in weights}
    return weights.renamed({new: old for new, old in names.items() if not new.endswith("position_ids")})


def openclip_to_transformers(weights: StateDict) -> StateDict:
    """OpenCLIP text ``weights`` under ``CLIPTextModel``'s names; the joined q, k, v projections are split.

    ``text_projection`` [width, projected] becomes ``projection.weight`` [projected, width].
    """
    out: dict[str, Tensor] = {}
    for key in weights:
        if (name := _OPENCLIP_OUTER.get(key)) is not None:
            out[name] = weights[key]
        elif key == "text_projection":
            out["projection.weight"] = weights[key].T
        elif key == "text_projection.weight":
            out["projection.weight"] = weights[key]
        elif match := _OPENCLIP_BLOCK.match(key):
            head, rest = f"encoder.layers.{match[1]}", match[2]
            if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
                kind = rest.rpartition("_")[2]
                for letter, part in zip("qkv", torch.chunk(weights[key], 3), strict=True):
                    out[f"{head}.self_attn.{letter}_proj.{kind}"] = part
            else:
                out[f"{head}.{_replace_start(rest, _OPENCLIP_PARTS)}"] = weights[key]
    return from_tensors(weights.name, out)


def _replace_start(text: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if text == old or text.startswith(f"{old}."):
            return new + text[len(old) :]
    return text


def _modern_vae_key(key: str) -> str:
    head, mark, rest = key.partition(".attentions.0.")
    return head + mark + _replace_start(rest, _OLD_VAE_ATTENTION) if mark else key


def _squeeze_attention(weights: StateDict) -> StateDict:
    """``weights`` with the 1x1 convolutions of the VAE's attention as matrices, as in diffusers."""
    tensors: dict[str, Tensor] = {}
    for key in weights:
        tensor = weights[key]
        is_attention = ".attentions." in key and key.endswith("weight")
        tensors[key] = tensor[:, :, 0, 0] if is_attention and tensor.ndim == 4 else tensor
    return from_tensors(weights.name, tensors, weights.metadata)
