"""Checkpoints as folders of diffusers: ``model_index.json`` with a folder for each part."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from latentd.errors import ModelLoadError
from latentd.models.architecture import (
    LINEAR_END,
    LINEAR_START,
    SCALE_FACTORS,
    STEPS,
    Architecture,
    Family,
    PredictionType,
    TextArchitecture,
    Variant,
)
from latentd.models.devices import DevicePolicy
from latentd.models.files.state_dict import StateDict, from_tensors, open_state_dict
from latentd.models.loading.build import build_text_encoder, build_unet, build_vae
from latentd.models.loading.convert import clip_to_transformers, vae_to_diffusers
from latentd.models.loading.recognise import SUPPORTED
from latentd.models.modules.text_encoder import TextEncoder
from latentd.models.untyped import DiffusersUNet, DiffusersVae, ModelConfig
from latentd.regular import is_regular, read_regular

MAX_CONFIG = 2**20
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SUFFIXES = (".safetensors", ".bin")
#: ``model.safetensors``, ``model.fp16.safetensors``, ``model.fp16-00001-of-00002.safetensors`` and its older form
#: ``model-00001-of-00002.fp16.safetensors``
_WEIGHTS = re.compile(
    rf"(?P<stem>{'|'.join(_STEMS)})(?:\.(?P<variant>\w+))?(?:-\d{{5}}-of-(?P<count>\d{{5}}))?(?:\.(?P<late>\w+))?"
    r"(?P<suffix>\.safetensors|\.bin)"
)
_SCHEDULER_CONFIGS = ("config.json", "scheduler_config.json")
_Preference: TypeAlias = tuple[int, int, int, str, str]
_PREDICTIONS: dict[str, PredictionType] = {"epsilon": "eps", "v_prediction": "v"}


def folder_parts(
    folder: Path, policy: DevicePolicy
) -> tuple[Architecture, DevicePolicy, DiffusersUNet, DiffusersVae, tuple[TextEncoder, ...]]:
    """Architecture, UNet, VAE and text encoders of the model in ``folder``, and the policy for its family.

    :raises ModelLoadError: a part is missing, damaged, or of an unsupported kind.
    """
    unet_config, vae_config = _config(folder / "unet"), _config(folder / "vae")
    parts = _text_parts(folder)
    texts = tuple(_text(_config(folder / part), second=part == "text_encoder_2") for part in parts)
    architecture = _architecture(folder, unet_config, vae_config, texts)
    policy = policy.for_family(architecture.family)
    unet = build_unet(weights_in(folder / "unet"), unet_config, policy.home_of("unet"), policy.dtype_of("unet"))
    vae_weights = vae_to_diffusers(weights_in(folder / "vae"))
    vae = build_vae(vae_weights, vae_config, policy.home_of("vae"), policy.dtype_of("vae"))
    encoders = []
    for part, text in zip(parts, architecture.text, strict=True):
        weights = weights_in(folder / part)
        keys = {("projection.weight" if k == "text_projection.weight" else k): k for k in weights}
        named = clip_to_transformers(weights.renamed(keys))
        encoders.append(build_text_encoder(named, text, policy.home_of("text"), policy.dtype_of("text")))
    return architecture, policy, unet, vae, tuple(encoders)


def weights_in(folder: Path) -> StateDict:
    """The weights in a part's folder: one file or shards, safetensors before pickles.

    Plain files go before variants (``.fp16`` before others, such as ``.bf16`` or ``.ema``).

    :raises ModelLoadError: there are none, or shards are missing.
    """
    found: dict[_Preference, list[tuple[re.Match[str], Path]]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (match := _WEIGHTS.fullmatch(path.name)) is not None and is_regular(path):
            found.setdefault(_preference(match), []).append((match, path))
    if not found:
        raise ModelLoadError(f"folder {folder.parent.name}/{folder.name} holds no weights")
    chosen = found[min(found)]
    expected = int(chosen[0][0]["count"] or 1)
    if len(chosen) != expected:
        raise ModelLoadError(
            f"folder {folder.parent.name}/{folder.name} holds {len(chosen)} of {expected} shards",
            hint="download the others",
        )
    parts = [open_state_dict(path) for _, path in chosen]
    return parts[0] if len(parts) == 1 else from_tensors(folder.name, {k: part[k] for part in parts for k in part})


def _preference(match: re.Match[str]) -> _Preference:
    """What is loaded before what; equal for the shards of one set."""
    variant = match["variant"] or match["late"] or ""
    rank = {"": 0, "fp16": 1}.get(variant, 2)
    return _SUFFIXES.index(match["suffix"]), _STEMS.index(match["stem"]), rank, variant, match["count"] or ""


def _config(folder: Path, name: str = "config.json") -> ModelConfig:
    path = folder / name
    try:
        data = json.loads(read_regular(path, MAX_CONFIG))
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{folder.parent.name}/{folder.name}/{name} is not usable: {error}") from error
    return {key: value for key, value in data.items() if not key.startswith("_")}


def _text_parts(folder: Path) -> list[str]:
    return [part for part in ("text_encoder", "text_encoder_2") if (folder / part / "config.json").is_file()]


def _text(config: ModelConfig, *, second: bool) -> TextArchitecture:
    try:
        projects = second or "WithProjection" in str(config.get("architectures"))
        return TextArchitecture(
            kind="clip" if config.get("hidden_act", "quick_gelu") == "quick_gelu" else "openclip",
            prefix="",
            width=int(config["hidden_size"]),
            inner_width=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            projection=int(config["projection_dim"]) if projects else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelLoadError(f"a text encoder's config.json is incomplete: {error}") from error


def _architecture(
    folder: Path, unet: ModelConfig, vae: ModelConfig, text: tuple[TextArchitecture, ...]
) -> Architecture:
    variants: dict[int, Variant] = {4: "base", 9: "inpainting", 8: "edit"}
    if not text or unet.get("in_channels") not in variants:
        raise ModelLoadError(f"{folder.name} is not a Stable Diffusion model", hint=SUPPORTED)
    if unet.get("addition_embed_type") == "text_time":
        family: Family = "sdxl" if len(text) == 2 else "sdxl-refiner"
    else:
        family = "sd1" if text[0].kind == "clip" else "sd2"
    if family == "sd2":  # diffusers saves the layers that are used, and so not the last
        text = (replace(text[0], lacks_last=True),)
    return Architecture(
        family=family,
        variant=variants[unet["in_channels"]],
        unet=unet,
        vae=vae,
        text=text,
        scale_factor=float(vae.get("scaling_factor", SCALE_FACTORS[family])),
        **_schedule(folder),
    )


def _schedule(folder: Path) -> ModelConfig:
    """The training schedule in the folder's scheduler: prediction, betas, steps, and whether it ends in pure noise.

    :raises ModelLoadError: it is of a kind that latentd cannot sample.
    """
    part = folder / "scheduler"
    name = next((name for name in _SCHEDULER_CONFIGS if (part / name).is_file()), None)
    config = {} if name is None else _config(part, name)
    said = {"prediction_type": "epsilon", "beta_schedule": "scaled_linear", "trained_betas": None, "sigma_data": None}
    said |= {key: config[key] for key in said if key in config}
    prediction = _PREDICTIONS.get(str(said.pop("prediction_type")))
    if prediction is None or said != {"beta_schedule": "scaled_linear", "trained_betas": None, "sigma_data": None}:
        raise ModelLoadError(
            f"{folder.name}/scheduler/{name} is of a kind that latentd does not sample", hint=SUPPORTED
        )
    try:
        return {
            "prediction_type": prediction,
            "linear_start": float(config.get("beta_start", LINEAR_START)),
            "linear_end": float(config.get("beta_end", LINEAR_END)),
            "steps": int(config.get("num_train_timesteps", STEPS)),
            "zero_terminal_snr": config.get("rescale_betas_zero_snr") is True,
        }
    except (TypeError, ValueError) as error:
        raise ModelLoadError(f"{folder.name}/scheduler/{name} is not usable: {error}") from error
