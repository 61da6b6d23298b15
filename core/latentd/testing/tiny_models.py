"""Tiny checkpoints for tests, with random weights and the key layouts of LDM and SGM.

The names of weights come from the formats themselves, not from latentd's maps, so that the maps are tested by them.
This module imports torch, so ``latentd.testing`` does not import it::

    from latentd.testing import tiny_models

    path = data_dir / "models/Stable-diffusion/tiny.safetensors"
    tiny_models.write(path, tiny_models.checkpoint("sd1", vae_widths=tiny_models.EIGHTH))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]
Family = Literal["sd1", "inpainting", "edit", "sd2", "sdxl", "sdxl-refiner"]
#: ``vae_widths`` of a VAE whose latents have an eighth of the picture's width and height, as in real models.
EIGHTH = (32, 32, 32, 32)


@dataclass(frozen=True, kw_only=True)
class TinyUNet:
    """Shape of a UNet.

    :ivar multipliers: channels of each level, in multiples of 32.
    :ivar depths: transformer blocks of each level; 0 for a level without attention.
    :ivar middle: the same of the middle block.
    :ivar blocks: residual blocks of each level.
    :ivar context: width of the text's encoding.
    :ivar in_channels: 4, 9 for inpainting, 8 for InstructPix2Pix.
    :ivar linear: projections of transformers as linear layers (SD2, SDXL) rather than convolutions.
    :ivar label: width of SDXL's vector of sizes and pooled text; None without one.
    """

    multipliers: Sequence[int] = (1, 2)
    depths: Sequence[int] = (1, 0)
    middle: int = 1
    blocks: int = 1
    context: int = 32
    in_channels: int = 4
    linear: bool = False
    label: int | None = None


class _Writer:
    """Collects random weights by name: normally distributed with deviation 0.1, and equal for equal seeds."""

    def __init__(self, seed: int) -> None:
        self.weights: Weights = {}
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, name: str, *shape: int) -> None:
        self.weights[name] = torch.randn(*shape, generator=self.generator) * 0.1

    def pair(self, name: str, *shape: int, bias: bool = True) -> None:
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def norm(self, name: str, width: int, bias: float = 0) -> None:
        self.weights[f"{name}.weight"] = torch.ones(width)
        self.weights[f"{name}.bias"] = torch.full((width,), bias)

    def last_norm(self, name: str, width: int) -> None:
        # The mean of the outputs is not 0, as in real models, because emphasis divides by it.
        self.norm(name, width, bias=0.1)


def unet(shape: TinyUNet, seed: int = 0) -> Weights:
    """A UNet's weights under ``openaimodel``'s names."""
    w, base = _Writer(seed), 32
    time = base * 4
    w.pair("time_embed.0", time, base)
    w.pair("time_embed.2", time, time)
    if shape.label:
        w.pair("label_emb.0.0", time, shape.label)
        w.pair("label_emb.0.2", time, time)
    w.pair("input_blocks.0.0", base, shape.in_channels, 3, 3)
    widths, channels, index = [base], base, 1
    for level, (multiplier, depth) in enumerate(zip(shape.multipliers, shape.depths, strict=True)):
        for _ in range(shape.blocks):
            _resnet(w, f"input_blocks.{index}.0", channels, base * multiplier, time)
            channels = base * multiplier
            _transformer(w, f"input_blocks.{index}.1", channels, depth, shape)
            widths.append(channels)
            index += 1
        if level < len(shape.multipliers) - 1:
            w.pair(f"input_blocks.{index}.0.op", channels, channels, 3, 3)
            widths.append(channels)
            index += 1
    _resnet(w, "middle_block.0", channels, channels, time)
    _transformer(w, "middle_block.1", channels, shape.middle, shape)
    _resnet(w, "middle_block.2", channels, channels, time)
    index = 0
    for level in reversed(range(len(shape.multipliers))):
        for block in range(shape.blocks + 1):
            out, depth = base * shape.multipliers[level], shape.depths[level]
            _resnet(w, f"output_blocks.{index}.0", channels + widths.pop(), out, time)
            channels = out
            _transformer(w, f"output_blocks.{index}.1", channels, depth, shape)
            if block == shape.blocks and level:
                w.pair(f"output_blocks.{index}.{2 if depth else 1}.conv", channels, channels, 3, 3)
            index += 1
    w.norm("out.0", channels)
    w.pair("out.2", 4, channels, 3, 3)
    return w.weights


def _resnet(w: _Writer, name: str, before: int, after: int, time: int) -> None:
    w.norm(f"{name}.in_layers.0", before)
    w.pair(f"{name}.in_layers.2", after, before, 3, 3)
    w.pair(f"{name}.emb_layers.1", after, time)
    w.norm(f"{name}.out_layers.0", after)
    w.pair(f"{name}.out_layers.3", after, after, 3, 3)
    if before != after:
        w.pair(f"{name}.skip_connection", after, before, 1, 1)


def _transformer(w: _Writer, name: str, width: int, depth: int, shape: TinyUNet) -> None:
    if not depth:
        return
    kernel = () if shape.linear else (1, 1)
    w.norm(f"{name}.norm", width)
    w.pair(f"{name}.proj_in", width, width, *kernel)
    w.pair(f"{name}.proj_out", width, width, *kernel)
    for layer in range(depth):
        inner = f"{name}.transformer_blocks.{layer}"
        for number, context in (("1", width), ("2", shape.context)):
            w.pair(f"{inner}.attn{number}.to_q", width, width, bias=False)
            w.pair(f"{inner}.attn{number}.to_k", width, context, bias=False)
            w.pair(f"{inner}.attn{number}.to_v", width, context, bias=False)
            w.pair(f"{inner}.attn{number}.to_out.0", width, width)
        w.pair(f"{inner}.ff.net.0.proj", width * 8, width)
        w.pair(f"{inner}.ff.net.2", width, width * 4)
        for number in "123":
            w.norm(f"{inner}.norm{number}", width)


def vae(seed: int = 1, widths: Sequence[int] = (32, 64)) -> Weights:
    """A VAE's weights under LDM's names; every width after the first halves the latent's width and height."""
    w = _Writer(seed)

    def block(name: str, before: int, after: int) -> None:
        w.norm(f"{name}.norm1", before)
        w.pair(f"{name}.conv1", after, before, 3, 3)
        w.norm(f"{name}.norm2", after)
        w.pair(f"{name}.conv2", after, after, 3, 3)
        if before != after:
            w.pair(f"{name}.nin_shortcut", after, before, 1, 1)

    def middle(name: str, width: int) -> None:
        block(f"{name}.block_1", width, width)
        block(f"{name}.block_2", width, width)
        w.norm(f"{name}.attn_1.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            w.pair(f"{name}.attn_1.{part}", width, width, 1, 1)

    w.pair("encoder.conv_in", widths[0], 3, 3, 3)
    before = widths[0]
    for level, width in enumerate(widths):
        block(f"encoder.down.{level}.block.0", before, width)
        before = width
        if level < len(widths) - 1:
            w.pair(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    middle("encoder.mid", before)
    w.norm("encoder.norm_out", before)
    w.pair("encoder.conv_out", 8, before, 3, 3)
    w.pair("decoder.conv_in", before, 4, 3, 3)
    middle("decoder.mid", before)
    for level in reversed(range(len(widths))):
        for number in range(2):
            block(f"decoder.up.{level}.block.{number}", before, widths[level])
            before = widths[level]
        if level:
            w.pair(f"decoder.up.{level}.upsample.conv", before, before, 3, 3)
    w.norm("decoder.norm_out", before)
    w.pair("decoder.conv_out", 3, before, 3, 3)
    w.pair("quant_conv", 8, 8, 1, 1)
    w.pair("post_quant_conv", 4, 4, 1, 1)
    return w.weights


def clip(width: int = 32, layers: int = 3, seed: int = 2, prefix: str = "text_model.") -> Weights:
    """A CLIP text encoder's weights under transformers' old names."""
    w = _Writer(seed)
    w.add(f"{prefix}embeddings.token_embedding.weight", 49408, width)
    w.add(f"{prefix}embeddings.position_embedding.weight", 77, width)
    w.weights[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    for layer in range(layers):
        name = f"{prefix}encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            w.pair(f"{name}.self_attn.{part}", width, width)
        w.pair(f"{name}.mlp.fc1", width * 4, width)
        w.pair(f"{name}.mlp.fc2", width, width * 4)
        w.norm(f"{name}.layer_norm1", width)
        w.norm(f"{name}.layer_norm2", width)
    w.last_norm(f"{prefix}final_layer_norm", width)
    return w.weights


def openclip(width: int = 32, layers: int = 3, seed: int = 3, projection: int = 32) -> Weights:
    """An OpenCLIP text encoder's weights."""
    w = _Writer(seed)
    w.add("token_embedding.weight", 49408, width)
    w.add("positional_embedding", 77, width)
    w.add("text_projection", width, projection)
    w.weights["logit_scale"] = torch.tensor(4.6)
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        w.add(f"{name}.attn.in_proj_weight", width * 3, width)
        w.add(f"{name}.attn.in_proj_bias", width * 3)
        w.pair(f"{name}.attn.out_proj", width, width)
        w.pair(f"{name}.mlp.c_fc", width * 4, width)
        w.pair(f"{name}.mlp.c_proj", width, width * 4)
        w.norm(f"{name}.ln_1", width)
        w.norm(f"{name}.ln_2", width)
    w.last_norm("ln_final", width)
    return w.weights


def under(prefix: str, weights: Weights) -> Weights:
    """``weights`` with ``prefix`` before every name."""
    return {prefix + key: value for key, value in weights.items()}


def checkpoint(family: Family, seed: int = 0, *, vae_widths: Sequence[int] = (32, 64)) -> Weights:
    """The weights of a whole checkpoint of ``family``; ``seed`` is its UNet's."""
    inner: Weights
    if family in ("sd1", "inpainting", "edit"):
        channels = {"sd1": 4, "inpainting": 9, "edit": 8}[family]
        inner = unet(TinyUNet(in_channels=channels), seed)
        text = under("cond_stage_model.transformer.", clip())
    elif family == "sd2":
        inner = unet(TinyUNet(linear=True), seed)
        text = under("cond_stage_model.model.", openclip())
    elif family == "sdxl":
        shape = TinyUNet(depths=(0, 2), middle=2, context=64, linear=True, label=32 + 6 * 256)
        inner = unet(shape, seed)
        text = under("conditioner.embedders.0.transformer.", clip())
        text |= under("conditioner.embedders.1.model.", openclip())
    else:
        inner = unet(TinyUNet(depths=(0, 2), middle=2, linear=True, label=32 + 5 * 256), seed)
        text = under("conditioner.embedders.0.model.", openclip())
    return under("model.diffusion_model.", inner) | under("first_stage_model.", vae(widths=vae_widths)) | text


def write(path: Path, weights: Weights, metadata: dict[str, str] | None = None) -> Path:
    """``weights`` as a safetensors file of half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in weights.items()}
    save_file(halves, path, metadata=metadata)
    return path
