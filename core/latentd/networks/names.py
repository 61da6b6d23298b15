"""From the names in network files to modules of a loaded model (semantics 12.1).

Files name modules after kohya's flattening of diffusers paths (``lora_unet_down_blocks_0_…``) or of LDM's
(``lora_unet_input_blocks_1_1_…``, ``diffusion_model_…``); both are written down for every module of the model at hand,
so that a name is looked up, never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

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
_UNET_PREFIXES = ("lora_unet_", "oft_unet_", "diffusion_model_")
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.?(.*)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.?(.*)")
_DIFFUSERS = re.compile(
    r"(unet|text_encoder|text_encoder_2)\.(.+?)\.(?:lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)"
    r"(?:\.default)?\.weight"
)
_DIFFUSERS_OWNERS = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


@dataclass(frozen=True, slots=True)
class Site:
    """One module that networks may change, and which of a tag's two multipliers counts there."""

    path: str
    module: nn.Module
    multiplier: Multiplier


@dataclass(frozen=True, slots=True)
class Targets:
    """The parts of a loaded model that networks act on.

    ``unet``: diffusers' UNet2DConditionModel. ``text_encoders``: transformers' CLIP models, or wrappers that hold one
    as ``transformer``, by the short name that files use: ``te`` for the only one of SD 1 and 2, ``te1`` (CLIP-L) and
    ``te2`` (bigG) for SDXL.
    """

    unet: nn.Module | None
    text_encoders: Mapping[str, nn.Module]

    def modules(self) -> Iterator[nn.Module]:
        """The parts that are there."""
        if self.unet is not None:
            yield self.unet
        yield from self.text_encoders.values()


def targets_of(unet: nn.Module | None, text_encoders: Sequence[nn.Module]) -> Targets:
    """Targets under the names that files use for one text encoder (SD 1, SD 2) or for two (SDXL)."""
    shorts = ("te",) if len(text_encoders) == 1 else ("te1", "te2")
    return Targets(unet, dict(zip(shorts, text_encoders, strict=False)))


def site_index(targets: Targets) -> dict[str, Site]:
    """Every name under which a file may mean a module that has a weight, with that module."""
    index: dict[str, Site] = {}
    if targets.unet is not None:
        blocks = _block_facts(targets.unet)
        for path, module in _weighted(targets.unet):
            site = Site(f"unet.{path}", module, "unet")
            for name in {path, ldm_path(path, *blocks)}:
                for prefix in _UNET_PREFIXES:
                    index[prefix + name.replace(".", "_")] = site
    for short, encoder in targets.text_encoders.items():
        for path, module in _weighted(encoder):
            inner = path.removeprefix("transformer.").removeprefix("text_model.")
            # A1111 tells the multipliers apart by the word "transformer" in its own names; the projection's lacks it
            if inner in ("projection", "text_projection"):
                index[f"lora_{short}_text_projection"] = Site(f"{short}.{path}", module, "unet")
            else:
                index[f"lora_{short}_text_model_{inner.replace('.', '_')}"] = Site(f"{short}.{path}", module, "te")
    return index


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


def ldm_path(path: str, resnets: int, attending: frozenset[int]) -> str:
    """LDM's path of a module of the UNet given by its path in diffusers; unknown ones come back unchanged.

    :param resnets: resnets in a down block (2 in every Stable Diffusion).
    :param attending: indices of the up blocks that have attentions, whose upsampler comes one place later.
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


def split_key(key: str) -> tuple[str, str]:
    """``(module name, weight name)`` of a tensor's key in a file, diffusers' dotted keys in kohya's form."""
    if match := _DIFFUSERS.fullmatch(key):
        path = match[2].replace(".", "_")
        down = "lora_A" in key or "down.weight" in key
        return f"{_DIFFUSERS_OWNERS[match[1]]}_{path}", "lora_down.weight" if down else "lora_up.weight"
    module, _, weight = key.partition(".")
    return module, weight
