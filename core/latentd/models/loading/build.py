"""Building modules from weights: on the meta device, which takes no memory, and then with the file's tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import nn

from latentd.errors import ModelLoadError
from latentd.models.architecture import Architecture, TextArchitecture
from latentd.models.devices import DevicePolicy
from latentd.models.files.file_kinds import looks_like
from latentd.models.files.state_dict import StateDict
from latentd.models.loading.convert import (
    clip_to_transformers,
    openclip_to_transformers,
    unet_to_diffusers,
    vae_to_diffusers,
)
from latentd.models.loading.recognise import UNET_PREFIX, VAE_PREFIX, vae_config
from latentd.models.loading.unet_layout import read_unet_layout
from latentd.models.modules.text_encoder import TextEncoder
from latentd.models.untyped import DiffusersUNet, DiffusersVae, ModelConfig

M = TypeVar("M")

LATENT_CHANNELS = 4
"""Of every family that latentd runs."""


def build_unet(weights: StateDict, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> DiffusersUNet:
    """A ``UNet2DConditionModel`` in eval mode from ``weights`` under diffusers' names.

    :raises ModelLoadError: weights are missing or of the wrong shape.
    """
    from diffusers import UNet2DConditionModel

    make: Callable[[], DiffusersUNet] = partial(UNet2DConditionModel, **_accepted(UNet2DConditionModel, config))
    return assemble(make, weights, device, dtype)


def build_vae(weights: StateDict, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> DiffusersVae:
    """An ``AutoencoderKL`` in eval mode from ``weights`` under diffusers' names."""
    from diffusers import AutoencoderKL

    make: Callable[[], DiffusersVae] = partial(AutoencoderKL, **_accepted(AutoencoderKL, config))
    return assemble(make, weights, device, dtype)


def _accepted(kind: type[object], config: ModelConfig) -> ModelConfig:
    """The entries of ``config`` that ``kind`` takes; files have others, as the settings of averages in training."""
    known = signature(kind).parameters
    return {key: value for key, value in config.items() if key in known}


def build_text_encoder(
    weights: StateDict, architecture: TextArchitecture, device: torch.device, dtype: torch.dtype
) -> TextEncoder:
    """The text encoder in eval mode from ``weights`` under ``CLIPTextModel``'s names (and ``projection.weight``)."""
    keys = {f"transformer.{key}": key for key in weights if key != "projection.weight"}
    if architecture.projection is not None and "projection.weight" in weights:
        keys["projection.weight"] = "projection.weight"
    encoder = assemble(lambda: TextEncoder(architecture), weights.renamed(keys), device, dtype)
    # The positions are in no file, so they are still on the meta device.
    positions = torch.arange(architecture.positions, device=device)[None]
    encoder.transformer.embeddings.register_buffer("position_ids", positions, persistent=False)
    return encoder


def ldm_parts(
    weights: StateDict, architecture: Architecture, policy: DevicePolicy
) -> tuple[DiffusersUNet, DiffusersVae | None, tuple[TextEncoder, ...]]:
    """UNet, VAE (None if the file has none) and text encoders of a checkpoint in a single file."""
    unet_weights = weights.below(UNET_PREFIX)
    layout = read_unet_layout(unet_weights.shapes, weights.name)
    unet = build_unet(
        unet_to_diffusers(unet_weights, layout), architecture.unet, policy.home_of("unet"), policy.dtype_of("unet")
    )
    vae = None
    if architecture.vae is not None:
        vae_weights = vae_to_diffusers(weights.below(VAE_PREFIX))
        vae = build_vae(vae_weights, architecture.vae, policy.home_of("vae"), policy.dtype_of("vae"))
    encoders = []
    for text in architecture.text:
        convert = clip_to_transformers if text.kind == "clip" else openclip_to_transformers
        part = convert(weights.below(text.prefix))
        encoders.append(build_text_encoder(part, text, policy.home_of("text"), policy.dtype_of("text")))
    return unet, vae, tuple(encoders)


def standalone_vae(weights: StateDict, policy: DevicePolicy) -> DiffusersVae:
    """The VAE in a separate file, with LDM's or diffusers' names, with or without ``first_stage_model.``.

    :raises ModelLoadError: the file has no VAE, or one for latents of other models.
    """
    inner = weights.below(VAE_PREFIX)
    found = inner if len(inner) else weights
    config = vae_config(found.shapes)
    if config is None:
        raise ModelLoadError(f"{weights.name} holds no VAE", hint=looks_like(weights.shapes))
    if (channels := config["latent_channels"]) != LATENT_CHANNELS:
        raise ModelLoadError(
            f"{weights.name} is a VAE of {channels} latent channels, as FLUX or Stable Diffusion 3 has it",
            hint=f"those of SD 1, SD 2 and SDXL have {LATENT_CHANNELS}",
        )
    return build_vae(vae_to_diffusers(found), config, policy.home_of("vae"), policy.dtype_of("vae"))


def assemble(make: Callable[[], M], weights: StateDict, device: torch.device, dtype: torch.dtype) -> M:
    """The module of ``make()`` with ``weights``, in eval mode, without gradients; further keys are ignored.

    Every tensor is copied from the file, so that replacing the file does not change a loaded model.

    :raises ModelLoadError: keys are missing or have another shape; the message names the first of them.
    """
    with torch.device("meta"):
        made = make()
    module: Any = made  # an nn.Module, but mypy does not know that of diffusers' classes
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = [key for key in wanted if key not in weights]
    if missing:
        what = f"{len(missing)} weights of its {_kind(module)}"
        raise ModelLoadError(f"{weights.name} lacks {what}, {missing[0]} among them")
    state: dict[str, torch.Tensor] = {}
    for key, shape in wanted.items():
        tensor = weights[key]
        if tuple(tensor.shape) != shape:
            raise ModelLoadError(f"{weights.name}: {key} has shape {tuple(tensor.shape)}, expected {shape}")
        state[key] = tensor.to(device=device, dtype=dtype, copy=True)
    module.load_state_dict(state, assign=True)
    module.eval().requires_grad_(False)
    return made


def _kind(module: nn.Module) -> str:
    known = {"UNet2DConditionModel": "UNet", "AutoencoderKL": "VAE", "ControlNetModel": "ControlNet"}
    return known.get(type(module).__name__, "text encoder")
