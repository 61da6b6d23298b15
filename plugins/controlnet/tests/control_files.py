"""Tiny control models with the true key layouts of every kind, random weights, made for the tiny checkpoints.

Names are spelled here from the formats themselves, not from the plugin's maps, so that the maps are tested by them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from latentd.testing import tiny_models

Weights = dict[str, Tensor]


ENCODER = ("time_embed.", "label_emb.", "input_blocks.", "middle_block.")
HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)


def checkpoint(family: tiny_models.Family, seed: int = 0) -> Weights:
    """A whole checkpoint whose VAE shrinks by 8, as latents of real ones do."""
    return tiny_models.checkpoint(family, seed, vae_widths=tiny_models.EIGHTH)


def write(path: Path, weights: Weights) -> Path:
    """``weights`` as they are, as a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def random(*shape: int, seed: int = 0, scale: float = 0.1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def base_encoder(weights: Weights) -> Weights:
    """The encoder of a checkpoint's UNet, its keys without prefix."""
    prefix = "model.diffusion_model."
    inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return {key: value.half().float() for key, value in inner.items() if key.startswith(ENCODER)}


def controlnet(encoder: Weights, seed: int = 5) -> Weights:
    """LDM's layout: an encoder of its own with the hint block and the zero convolutions, which are not zero here."""
    own = {key: value + random(*value.shape, seed=seed, scale=0.02) for key, value in encoder.items()}
    if own["input_blocks.0.0.weight"].shape[1] > 4:
        own["input_blocks.0.0.weight"] = own["input_blocks.0.0.weight"][:, :4]
    return own | heads(encoder, seed)


def heads(encoder: Weights, seed: int = 5) -> Weights:
    """What a ControlNet has beside the encoder."""
    base = encoder["input_blocks.0.0.weight"].shape[0]
    weights: Weights = {}
    before = 3
    for index, width in enumerate((*HINT_WIDTHS, base)):
        weights[f"input_hint_block.{2 * index}.weight"] = random(width, before, 3, 3, seed=seed + index)
        weights[f"input_hint_block.{2 * index}.bias"] = random(width, seed=seed + index)
        before = width
    count = 1 + max(int(key.split(".")[1]) for key in encoder if key.startswith("input_blocks."))
    for index in range(count):
        width = _width(encoder, f"input_blocks.{index}.0")
        weights[f"zero_convs.{index}.0.weight"] = random(width, width, 1, 1, seed=index, scale=0.3)
        weights[f"zero_convs.{index}.0.bias"] = random(width, seed=index)
    width = _width(encoder, "middle_block.0")
    weights["middle_block_out.0.weight"] = random(width, width, 1, 1, scale=0.3)
    weights["middle_block_out.0.bias"] = random(width)
    return weights


def _width(encoder: Weights, block: str) -> int:
    for part in ("weight", "op.weight", "out_layers.3.weight"):
        if f"{block}.{part}" in encoder:
            return encoder[f"{block}.{part}"].shape[0]
    raise KeyError(block)


#: LDM modules of the tiny SD1 encoder (two levels, one block each) and their names in diffusers.
_DIFFUSERS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "input_blocks.1.0": "down_blocks.0.resnets.0",
    "input_blocks.1.1": "down_blocks.0.attentions.0",
    "input_blocks.2.0.op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks.3.0": "down_blocks.1.resnets.0",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "middle_block_out.0": "controlnet_mid_block",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    **{f"input_hint_block.{2 * i + 2}": f"controlnet_cond_embedding.blocks.{i}" for i in range(6)},
    **{f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(4)},
}
_RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
           "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}  # fmt: skip


def to_diffusers(weights: Weights) -> Weights:
    """A tiny SD1 ControlNet of LDM's layout in diffusers'."""
    renamed: Weights = {}
    for key, value in weights.items():
        old = max((name for name in _DIFFUSERS if key.startswith(f"{name}.")), key=len)
        rest = key[len(old) + 1 :]
        for part, name in _RESNET.items():
            if "resnets" in _DIFFUSERS[old] and rest.startswith(f"{part}."):
                rest = name + rest[len(part) :]
                break
        renamed[f"{_DIFFUSERS[old]}.{rest}"] = value
    return renamed


def control_lora(encoder: Weights, rank: int = 2) -> tuple[Weights, Weights]:
    """(a control-LoRA, the full ControlNet that it amounts to)."""
    lora, full = heads(encoder), dict(encoder) | heads(encoder)
    for number, (key, value) in enumerate(encoder.items()):
        if value.ndim < 2 or number % 2:
            continue
        up, down = random(value.shape[0], rank, seed=number), random(rank, value[0].numel(), seed=number + 1)
        if value.ndim == 4:
            lora[key.replace(".weight", ".up")] = up[:, :, None, None]
            lora[key.replace(".weight", ".down")] = down.reshape(rank, *value.shape[1:])
        else:
            lora[key.replace(".weight", ".up")], lora[key.replace(".weight", ".down")] = up, down
        full[key] = value + (up @ down).reshape(value.shape)
    for key in ("time_embed.0.bias", "middle_block.0.in_layers.0.weight"):
        lora[key] = full[key] = encoder[key] + 0.1
    return lora | {"lora_controlnet": torch.zeros(1)}, full


def adapter(widths: tuple[int, ...] = (32, 64, 64, 64), channels: int = 192, blocks: int = 2) -> Weights:
    """A full T2I-Adapter of the original's layout."""
    weights = _conv("conv_in", widths[0], channels, 3)
    for level, width in enumerate(widths):
        for block in range(blocks):
            name = f"body.{level * blocks + block}"
            before = widths[level - 1] if block == 0 and level else width
            if before != width:
                weights |= _conv(f"{name}.in_conv", width, before, 1)
            weights |= _conv(f"{name}.block1", width, width, 3) | _conv(f"{name}.block2", width, width, 1)
    return weights


def adapter_to_diffusers(weights: Weights, blocks: int = 2) -> Weights:
    """A full T2I-Adapter in diffusers' layout."""
    renamed = {}
    for key, value in weights.items():
        parts = key.split(".")
        if parts[0] == "body":
            level, block = divmod(int(parts[1]), blocks)
            inner = "" if parts[2] == "in_conv" else f"resnets.{block}."
            key = f"body.{level}.{inner}{'.'.join(parts[2:])}"
        renamed[f"adapter.{key}"] = value
    return renamed


def light_adapter(widths: tuple[int, ...] = (32, 64, 64, 64)) -> Weights:
    """A light T2I-Adapter."""
    weights: Weights = {}
    before, inner = 192, 16
    for level, width in enumerate(widths):
        weights |= _conv(f"body.{level}.in_conv", inner, before, 1) | _conv(f"body.{level}.out_conv", width, inner, 1)
        for block in range(2):
            name = f"body.{level}.body.{block}"
            weights |= _conv(f"{name}.block1", inner, inner, 3) | _conv(f"{name}.block2", inner, inner, 3)
        before = width
    return weights


def _conv(name: str, out: int, before: int, size: int) -> Weights:
    return {f"{name}.weight": random(out, before, size, size, seed=out + before), f"{name}.bias": random(out)}


def ip_adapter(cross: list[int], context: int = 32, embedding: int = 24, tokens: int = 4) -> Weights:
    """A plain IP-Adapter for cross-attentions of the widths ``cross``, in the file's order."""
    weights = {
        "image_proj.proj.weight": random(tokens * context, embedding),
        "image_proj.proj.bias": random(tokens * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    return weights | _ip_layers(cross, context)


def ip_adapter_plus(cross: list[int], context: int = 32, embedding: int = 48, width: int = 64) -> Weights:
    """A plus IP-Adapter: a perceiver of two layers."""
    weights = {
        "image_proj.latents": random(1, 4, width),
        "image_proj.proj_in.weight": random(width, embedding),
        "image_proj.proj_in.bias": random(width),
        "image_proj.proj_out.weight": random(context, width),
        "image_proj.proj_out.bias": random(context),
        "image_proj.norm_out.weight": torch.ones(context),
        "image_proj.norm_out.bias": torch.zeros(context),
    }
    for layer in range(2):
        name = f"image_proj.layers.{layer}"
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights[f"{name}.{norm}.weight"], weights[f"{name}.{norm}.bias"] = torch.ones(width), torch.zeros(width)
        weights[f"{name}.0.to_q.weight"] = random(64, width)
        weights[f"{name}.0.to_kv.weight"] = random(128, width)
        weights[f"{name}.0.to_out.weight"] = random(width, 64)
        weights[f"{name}.1.1.weight"] = random(4 * width, width)
        weights[f"{name}.1.3.weight"] = random(width, 4 * width)
    return weights | _ip_layers(cross, context)


def face_adapter(cross: list[int], context: int = 32, tokens: int = 4) -> Weights:
    """A FaceID adapter, with the LoRA for the UNet that its file carries along."""
    weights = {
        "image_proj.proj.0.weight": random(1024, 512, scale=0.05),
        "image_proj.proj.0.bias": random(1024),
        "image_proj.proj.2.weight": random(tokens * context, 1024, scale=0.05),
        "image_proj.proj.2.bias": random(tokens * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    for layer in range(2 * len(cross)):
        weights[f"ip_adapter.{layer}.to_q_lora.down.weight"] = random(4, 32)
        weights[f"ip_adapter.{layer}.to_q_lora.up.weight"] = random(32, 4)
    return weights | _ip_layers(cross, context)


def face_adapter_plus(cross: list[int], context: int = 32, hidden: int = 48) -> Weights:
    """A FaceID plus adapter: a face's tokens look at CLIP's hidden states through two layers."""
    weights = face_adapter(cross, context)
    resampler = ip_adapter_plus(cross, context, hidden, width=context)
    for key, value in resampler.items():
        if key.startswith("image_proj.") and "latents" not in key:
            weights[key.replace("image_proj.", "image_proj.perceiver_resampler.")] = value
    return weights


def pulid_adapter(cross: list[int]) -> Weights:
    """Enough of a PuLID adapter to tell it."""
    weights = {f"image_proj.mapping_{i}.0.weight": random(8, 8) for i in range(5)}
    return weights | {"image_proj.latents": random(1, 4, 8)} | _ip_layers(cross, 32)


def sparse() -> Weights:
    """Enough of a SparseCtrl model to tell it."""
    norm = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
    return {norm: random(32), "input_hint_block.0.weight": random(16, 3, 3, 3)}


def _ip_layers(cross: list[int], context: int) -> Weights:
    weights: Weights = {}
    for index, width in enumerate(cross):
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * index + 1}.{part}.weight"] = random(width, context, seed=index, scale=0.5)
    return weights


def lllite(site: str = "input_blocks_1_1_transformer_blocks_0", width: int = 32, cond: int = 8) -> Weights:
    """A ControlLLLite that shifts queries, keys and values of one self-attention and queries of its cross-attention."""
    weights: Weights = {}
    for module in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q"):
        name = f"lllite_unet_{site}_{module}"
        weights |= _conv(f"{name}.conditioning1.0", 8, 3, 4) | _conv(f"{name}.conditioning1.2", cond, 8, 2)
        for part, out, before in (("down", 4, width), ("mid", 4, 4 + cond), ("up", width, 4)):
            weights[f"{name}.{part}.0.weight"] = random(out, before, seed=out, scale=0.5)
            weights[f"{name}.{part}.0.bias"] = random(out)
    return weights


def style_adapter(width: int = 48, context: int = 32) -> Weights:
    """A T2I style adapter of one layer."""
    weights = {"style_embedding": random(1, 8, width), "proj": random(width, context)}
    for norm in ("ln_pre", "ln_post", "transformer_layes.0.ln_1", "transformer_layes.0.ln_2"):
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = torch.ones(width), torch.zeros(width)
    name = "transformer_layes.0"
    for part, out, before in (("attn.out_proj", width, width), ("mlp.c_fc", 96, width), ("mlp.c_proj", width, 96)):
        weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"] = random(out, before), random(out)
    weights[f"{name}.attn.in_proj_weight"] = random(3 * width, width)
    weights[f"{name}.attn.in_proj_bias"] = random(3 * width)
    return weights


def clip_vision(width: int = 48, projected: int = 24) -> Weights:
    """CLIP's image encoder in transformers' layout: two layers, pictures of 28 pixels."""
    weights = {
        "vision_model.embeddings.class_embedding": random(width),
        "vision_model.embeddings.patch_embedding.weight": random(width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": random(5, width),
        "visual_projection.weight": random(projected, width),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for layer in range(2):
        name = f"encoder.layers.{layer}"
        norms += [f"{name}.layer_norm1", f"{name}.layer_norm2"]
        parts = [(f"self_attn.{letter}_proj", width, width) for letter in ("q", "k", "v", "out")]
        for part, out, before in (*parts, ("mlp.fc1", 96, width), ("mlp.fc2", width, 96)):
            weights[f"vision_model.{name}.{part}.weight"] = random(out, before, seed=layer)
            weights[f"vision_model.{name}.{part}.bias"] = random(out)
    for norm in norms:
        weights[f"vision_model.{norm}.weight"] = torch.ones(width)
        weights[f"vision_model.{norm}.bias"] = torch.zeros(width)
    return weights


def union(types: int = 6) -> Weights:
    """A union model for the tiny SDXL, as diffusers writes it (which is how such models are published)."""
    from diffusers import ControlNetUnionModel

    torch.manual_seed(3)
    model = ControlNetUnionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=64,
        attention_head_dim=(1, 1),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=32 + 6 * 256,
        num_control_type=types,
        num_trans_channel=32,
        num_proj_channel=32,
    )
    return {key: value + 0.02 * torch.randn_like(value) for key, value in model.state_dict().items()}
