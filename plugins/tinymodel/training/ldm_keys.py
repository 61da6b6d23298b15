"""From the names of diffusers' modules to those of the ordinary single-file checkpoint (LDM)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_key(name: str, layers: int = 1) -> str:
    """The LDM name, without prefix, of a parameter of a diffusers UNet or ControlNet."""
    for old, new in OUTER.items():
        if name.startswith(f"{old}."):
            return new + name[len(old) :]
    if found := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name):
        return f"zero_convs.{found[1]}.0.{found[2]}"
    if found := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", name):
        return f"input_hint_block.{2 * int(found[1]) + 2}.{found[2]}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    assert found, name
    level, kind, index, rest = int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{level * (layers + 1) + layers}.UP.{rest}"  # UP: 1, or 2 behind an attention
    block = (
        f"input_blocks.{1 + level * (layers + 1) + index}"
        if found[1] == "down"
        else (f"output_blocks.{level * (layers + 1) + index}")
    )
    return f"{block}.{0 if kind == 'resnets' else 1}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    part, _, leaf = rest.partition(".")
    return f"{RESIDUAL[part]}.{leaf}"


def unet_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's or ControlNet's state under LDM names."""
    named = {unet_key(name): value for name, value in state.items()}
    attended = {key.split(".")[1] for key in named if key.startswith("output_blocks.") and ".1.proj_in." in key}
    return {
        key.replace(".UP.", ".2." if key.split(".")[1] in attended else ".1."): value for key, value in named.items()
    }


def vae_keys(state: Mapping[str, Tensor], levels: int = 4) -> dict[str, Tensor]:
    """An AutoencoderKL's state under LDM names."""
    return dict(_vae_entry(name, value, levels) for name, value in state.items())


def _vae_entry(name: str, value: Tensor, levels: int) -> tuple[str, Tensor]:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        side, _, rest = name.partition(".mid_block.attentions.0.")
        old = next(old for old in ATTENTION if rest.startswith(old))
        value = value[:, :, None, None] if value.ndim == 2 else value
        return f"{side}.mid.attn_1.{ATTENTION[old]}{rest[len(old) :]}", value
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    return name, value
