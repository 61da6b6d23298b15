"""Which module of a loaded model a name in a network file means (rules: a1111-networks).

Each module of the model is listed under its path in diffusers and in LDM (text encoders: in transformers and in
OpenCLIP), so that names are looked up rather than parsed. How files spell names: :mod:`latentd.networks.spellings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from latentd.networks.spellings import ModuleName, Owner

Multiplier = Literal["te", "unet"]

_RESNET_PARTS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE_BLOCKS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.?(.*)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.?(.*)")
_OPENCLIP_PARTS = (
    ("encoder.layers.", "transformer.resblocks."),
    (".self_attn.", ".attn."),
    (".mlp.fc1", ".mlp.c_fc"),
    (".mlp.fc2", ".mlp.c_proj"),
    (".layer_norm1", ".ln_1"),
    (".layer_norm2", ".ln_2"),
    ("final_layer_norm", "ln_final"),
    ("embeddings.token_embedding", "token_embedding"),
)
_ATTENTION = re.compile(r"(.*\.self_attn)\.(?:[qkv]|out)_proj")
ATTENTION_PARTS = 4


@dataclass(frozen=True, slots=True)
class Site:
    """One module that networks may change, and which of a tag's two multipliers applies to it.

    ``joined`` names the OpenCLIP attention that this module is a part of, if any. AUTOMATIC1111 keeps q, k and v in one
    matrix and changes such an attention only if a file has all of q, k, v and out.
    """

    path: str
    module: nn.Module
    multiplier: Multiplier
    joined: str | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """The parts of a loaded model that networks act on.

    :param unet: diffusers' UNet2DConditionModel.
    :param text_encoders: transformers' CLIP models, or wrappers with one in their attribute ``transformer``: the only
        one of SD 1 and SD 2, or CLIP-L and bigG of SDXL.
    """

    unet: nn.Module | None
    text_encoders: tuple[nn.Module, ...]

    def modules(self) -> Iterator[nn.Module]:
        """The parts that are not None."""
        if self.unet is not None:
            yield self.unet
        yield from self.text_encoders


def targets_of(unet: nn.Module | None, text_encoders: Sequence[nn.Module]) -> Targets:
    """Targets with one text encoder (SD 1, SD 2) or with two (SDXL)."""
    return Targets(unet, tuple(text_encoders))


class SiteIndex:
    """The modules of a model that have a weight, by every path that files use for them."""

    def __init__(self, targets: Targets) -> None:
        self._unet: dict[str, Site] = {}
        self._dropped: set[str] = set()
        if targets.unet is not None:
            self._add_unet(targets.unet)
        encoders = [_text_sites(encoder, number) for number, encoder in enumerate(targets.text_encoders)]
        self._text: dict[Owner, dict[str, Site]] = {}
        if len(encoders) == 1:
            self._text = {"te": encoders[0], "first": encoders[0]}
        elif len(encoders) == 2:
            self._text = {"te1": encoders[0], "first": encoders[0], "te2": encoders[1]}
        self._encoders = tuple(encoders)

    def find(self, name: ModuleName) -> tuple[Site, ...]:
        """The modules that ``name`` may mean: one or none, or several if it does not say which part of the model."""
        if name.owner == "unet":
            tables: Sequence[Mapping[str, Site]] = (self._unet,)
        elif name.owner == "any":
            tables = (self._unet, *self._encoders)
        else:
            tables = (self._text.get(name.owner, {}),)
        return tuple(table[name.path] for table in tables if name.path in table)

    def is_dropped(self, name: ModuleName) -> bool:
        """Whether AUTOMATIC1111 1.8 leaves out ``name``: it looks for SDXL's first upsampler where SD 1 has it."""
        return name.kohya and name.owner == "unet" and name.path in self._dropped

    def _add_unet(self, unet: nn.Module) -> None:
        resnets, attending = _block_facts(unet)
        for path, module in _weighted(unet):
            site = Site(f"unet.{path}", module, "unet")
            for name in (path, path.removesuffix(".0") if path.endswith(".to_out.0") else path):
                for spelled in (name, ldm_path(name, resnets, attending)):
                    self._unet[spelled.replace(".", "_")] = site
        for number in attending:
            if number == 0:
                self._dropped.add("up_blocks_0_upsamplers_0_conv")


def _text_sites(encoder: nn.Module, number: int) -> dict[str, Site]:
    """A text encoder's modules by their paths in transformers, OpenCLIP and attention processors; no ``text_model``."""
    architecture = getattr(encoder, "architecture", None)
    is_openclip = getattr(architecture, "kind", None) == "openclip"
    sites: dict[str, Site] = {}
    for path, module in _weighted(encoder):
        inner = path.removeprefix("transformer.").removeprefix("text_model.")
        full = f"text encoder {number + 1}.{path}"
        # AUTOMATIC1111 uses the text multiplier for those of its names that contain "transformer": not the projection.
        if inner in ("projection", "text_projection"):
            sites["text_projection"] = Site(full, module, "unet")
            continue
        match = _ATTENTION.fullmatch(inner)
        site = Site(full, module, "te", f"{number}.{match[1]}" if match and is_openclip else None)
        openclip = inner
        for ours, theirs in _OPENCLIP_PARTS:
            openclip = openclip.replace(ours, theirs)
        processors = re.sub(r"self_attn\.([qkv]|out)_proj", r"self_attn.to_\1", inner)
        for name in (inner, openclip, processors):
            sites[name.replace(".", "_")] = site
    return sites


def _weighted(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in root.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            yield path, module


def _block_facts(unet: nn.Module) -> tuple[int, frozenset[int]]:
    """Resnets in a down block, and the up blocks that have attentions."""
    paths = [path for path, _ in unet.named_modules()]
    resnets = sum(re.fullmatch(r"down_blocks\.0\.resnets\.\d+", path) is not None for path in paths)
    found = (re.fullmatch(r"up_blocks\.(\d+)\.attentions\.0", path) for path in paths)
    return resnets, frozenset(int(match[1]) for match in found if match)


def network_layers(
    unet: nn.Module, text_encoders: Sequence[nn.Module], *, as_ldm: bool
) -> Iterator[tuple[str, Literal["unet", "text"], str, nn.Module]]:
    """Each linear layer and convolution with its name in files of kohya's layout: (name, part, path, module).

    :param as_ldm: UNet modules by LDM's paths, as kohya has SDXL's; else by diffusers', as he has SD 1's and 2's.
    """
    resnets, attending = _block_facts(unet)
    for path, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            spelled = ldm_path(path, resnets, attending) if as_ldm else path
            yield f"lora_unet_{spelled.replace('.', '_')}", "unet", path, module
    for number, encoder in enumerate(text_encoders, 1):
        prefix = f"lora_te{number}" if len(text_encoders) > 1 else "lora_te"
        for path, module in encoder.named_modules():
            inner = path.removeprefix("transformer.")
            if isinstance(module, nn.Linear) and inner.startswith("encoder."):
                yield f"{prefix}_text_model_{inner.replace('.', '_')}", "text", path, module


def ldm_path(path: str, resnets: int, attending: frozenset[int]) -> str:
    """The path in LDM of a module of the UNet, given its path in diffusers; unknown paths are returned unchanged.

    :param resnets: number of resnets in a down block (2 in every Stable Diffusion).
    :param attending: indices of the up blocks with attentions; their upsamplers come one place later.
    """
    if path in _OUTSIDE_BLOCKS:
        return _OUTSIDE_BLOCKS[path]
    if match := _MIDDLE.fullmatch(path):
        kind, j, rest = match[1], int(match[2]), match[3]
        return f"middle_block.{2 * j if kind == 'resnets' else 1}.{_part(kind, rest)}"
    if not (match := _BLOCK.fullmatch(path)):
        return path
    side, i, kind, j, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    stride = resnets + 1
    if kind == "downsamplers":
        return f"input_blocks.{stride * (i + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{stride * i + resnets}.{2 if i in attending else 1}.conv"
    first = f"input_blocks.{1 + stride * i + j}" if side == "down_blocks" else f"output_blocks.{stride * i + j}"
    return f"{first}.{0 if kind == 'resnets' else 1}.{_part(kind, rest)}"


def _part(kind: str, rest: str) -> str:
    return _RESNET_PARTS.get(rest, rest) if kind == "resnets" else rest
