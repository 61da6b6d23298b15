"""From a ControlNet's file to its module: names, difference models, control-LoRA.

Rules: a1111-controlnet-recognition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from latentd.api import Model, ModelLoadError, build_module, read_weights, unet_key, weights_from_tensors
from latentd_controlnet.base_check import family
from latentd_controlnet.kinds.controlnet import ControlNet
from latentd_controlnet.kinds.recognise import DIFFUSERS_HINT, Kind, strip
from latentd_controlnet.kinds.union import Network

#: The convolutions of LDM's hint block and their names in diffusers.
_HINT = {0: "conv_in", 2: "blocks.0", 4: "blocks.1", 6: "blocks.2", 8: "blocks.3", 10: "blocks.4", 12: "blocks.5",
         14: "conv_out"}  # fmt: skip
_HINT_PREFIX = "controlnet_cond_embedding"
#: The convolutions after which the hint block has another width.
_HINT_WIDTHS = ("conv_in", "blocks.1", "blocks.3", "blocks.5")
_FLAGS = ("lora_controlnet", "difference")
_DEPTH = re.compile(r"(down_blocks\.(\d+)|mid_block)\.attentions\.\d+\.transformer_blocks\.(\d+)\.")


def load_controlnet(path: Path, kind: Kind, base: Model, dtype: torch.dtype) -> ControlNet:
    """The ControlNet in ``path`` for the loaded checkpoint ``base``.

    :raises ModelLoadError: weights are missing, or are for another family of checkpoints.
    """
    source = read_weights(path)
    keys = {strip(key): key for key in source}
    tensors = {key: source[old] for key, old in keys.items() if key not in _FLAGS}
    if DIFFUSERS_HINT not in tensors:
        if kind == Kind.CONTROL_LORA:
            tensors = _with_base_weights(tensors, base, path.name)
        else:
            tensors = _to_diffusers(tensors, base)
            if "difference" in keys:
                tensors = _added_to_base(tensors, base)
    _check_family(tensors, base, path.name)
    tensors = {key: _projection(key, value, base) for key, value in tensors.items()}
    union = tensors["task_embedding"].shape[0] if "task_embedding" in tensors else 0
    weights = weights_from_tensors(path.name, tensors)
    try:
        module = build_module(lambda: _module(tensors, base, union), weights, base.device, dtype)
    except ModelLoadError as error:
        hint = "it may be made for another family of checkpoints"
        raise ModelLoadError(f"ControlNet model {error.detail}", hint=hint) from error
    base.lay_out(module)
    return ControlNet(module=module, pooled="shuffle" in path.stem.lower(), union_types=union)


def _to_diffusers(tensors: Mapping[str, Tensor], base: Model) -> dict[str, Tensor]:
    named = {diffusers_name(key, base.module_names): value for key, value in tensors.items()}
    return {name: value for name, value in named.items() if name is not None}


def diffusers_name(key: str, modules: Mapping[str, str]) -> str | None:
    """The name in ``ControlNetModel`` for a key in LDM's naming; None if there is none.

    :param modules: ``module_names`` of the base.
    """
    head, *rest = key.split(".")
    if head == "input_hint_block":
        return f"{_HINT_PREFIX}.{_HINT[int(rest[0])]}.{'.'.join(rest[1:])}"
    if head == "zero_convs":
        return f"controlnet_down_blocks.{rest[0]}.{'.'.join(rest[2:])}"
    if head == "middle_block_out":
        return f"controlnet_mid_block.{'.'.join(rest[1:])}"
    if head in ("task_embedding", "transformer_layes", "spatial_ch_projs", "control_add_embedding"):
        return key
    name: str | None = unet_key(key, modules)
    return name


def _added_to_base(tensors: dict[str, Tensor], base: Model) -> dict[str, Tensor]:
    """A difference model's weights: each tensor that the base has as well, plus the base's tensor."""
    own = base.unet.state_dict()
    return {
        key: value + own[key].to(value) if key in own and own[key].shape == value.shape else value
        for key, value in tensors.items()
    }


def _with_base_weights(tensors: Mapping[str, Tensor], base: Model, name: str) -> dict[str, Tensor]:
    """A control-LoRA's weights: the base's encoder plus ``up·down``, or the file's own tensors where it has them."""
    own = base.unet.state_dict()
    encoder = {
        key: value.float()
        for key, value in own.items()
        if key.startswith(("conv_in.", "time_embedding.", "add_embedding.", "down_blocks.", "mid_block."))
    }
    for key, value in tensors.items():
        layer, _, part = key.rpartition(".")
        if part == "down":
            continue
        target = diffusers_name(f"{layer}.weight" if part == "up" else key, base.module_names)
        if target is None:
            continue
        if part != "up":
            encoder[target] = value
            continue
        if target not in encoder:
            raise ModelLoadError(f"{name}: the checkpoint has no weight for {layer}", hint="it is for another family")
        change = value.float().flatten(1) @ tensors[f"{layer}.down"].float().flatten(1)
        encoder[target] = encoder[target] + change.reshape(encoder[target].shape)
    if encoder["conv_in.weight"].shape[1] > 4:
        encoder["conv_in.weight"] = encoder["conv_in.weight"][:, :4]
    return encoder


def _check_family(tensors: Mapping[str, Tensor], base: Model, name: str) -> None:
    widths = (value.shape[1] for key, value in tensors.items() if key.endswith("attn2.to_k.weight"))
    width = next(widths, base.context_width)
    if width != base.context_width:
        raise ModelLoadError(
            f"ControlNet model {name} is for {family(width)} and not compatible with {family(base.context_width)}",
            hint="choose a control model or a checkpoint of the same family",
        )


def _projection(key: str, value: Tensor, base: Model) -> Tensor:
    """A projection around transformers in the base's form: a matrix, or a convolution of one pixel."""
    if not key.endswith((".proj_in.weight", ".proj_out.weight")):
        return value
    if base.unet.config.use_linear_projection:
        return value.flatten(1) if value.ndim == 4 else value
    return value[:, :, None, None] if value.ndim == 2 else value


def _module(tensors: Mapping[str, Tensor], base: Model, union: int) -> Network:
    """An empty ``ControlNetModel`` with the base's widths and the file's depths."""
    import diffusers

    parts: Network = diffusers

    config = base.unet.config
    depths, middle = _depths(tensors, len(config.block_out_channels))
    layers = config.layers_per_block
    if any(depths) and middle and not depths[-1]:
        depths[-1] = -middle  # sizes the middle block alone, since the last level itself has no attention
    arguments: dict[str, object] = {
        "in_channels": tensors["conv_in.weight"].shape[1],
        "conditioning_channels": tensors[f"{_HINT_PREFIX}.conv_in.weight"].shape[1],
        "conditioning_embedding_out_channels": tuple(
            tensors[f"{_HINT_PREFIX}.{part}.weight"].shape[0] for part in _HINT_WIDTHS
        ),
        "block_out_channels": config.block_out_channels,
        "layers_per_block": layers if isinstance(layers, int) else layers[0],
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth > 0 else "DownBlock2D" for depth in depths),
        "transformer_layers_per_block": tuple(abs(depth) or 1 for depth in depths),
        "cross_attention_dim": config.cross_attention_dim,
        "attention_head_dim": config.attention_head_dim,
        "use_linear_projection": config.use_linear_projection,
        "upcast_attention": config.upcast_attention,
    }
    if "add_embedding.linear_1.weight" in tensors:
        arguments |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": tensors["add_embedding.linear_1.weight"].shape[1],
        }
    if union:
        return parts.ControlNetUnionModel(**arguments, **_union_sizes(tensors))
    return parts.ControlNetModel(**arguments, mid_block_type="UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D")


def _union_sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The further sizes of a union model, from its weights."""
    types, width = tensors["task_embedding"].shape
    layers = {key.split(".")[1] for key in tensors if key.startswith("transformer_layes.")}
    return {
        "num_control_type": types,
        "num_trans_channel": width,
        "num_trans_layer": len(layers),
        "num_proj_channel": tensors["spatial_ch_projs.weight"].shape[0],
    }


def _depths(tensors: Mapping[str, Tensor], levels: int) -> tuple[list[int], int]:
    """The number of transformer layers in each level, and in the middle."""
    depths, middle = [0] * levels, 0
    for key in tensors:
        if match := _DEPTH.match(key):
            if match[2] is None:
                middle = max(middle, int(match[3]) + 1)
            elif int(match[2]) < levels:
                depths[int(match[2])] = max(depths[int(match[2])], int(match[3]) + 1)
    return depths, middle
