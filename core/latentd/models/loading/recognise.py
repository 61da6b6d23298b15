"""Recognising the kind of a checkpoint by its keys and their shapes (families as in AUTOMATIC1111 1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
from latentd.models.files.file_kinds import looks_like
from latentd.models.files.state_dict import Shapes
from latentd.models.loading.convert import vae_names
from latentd.models.loading.model_yaml import ModelYaml
from latentd.models.loading.unet_layout import UNetLayout, read_unet_layout

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
SDXL_KEY = "conditioner.embedders.1.model.ln_final.weight"
REFINER_KEY = "conditioner.embedders.0.model.ln_final.weight"
SD2_KEY = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
#: OpenCLIP's ViT-H has so many; files converted from a folder of diffusers lack the last.
SD2_TEXT_LAYERS = 24

SUPPORTED = "supported: SD 1.x, SD 2.x, SDXL"
_UNSUPPORTED = {
    "depth_model.": "a depth-to-image model",
    "embedder.model.ln_final.weight": "an unCLIP model",
    "cond_stage_model.roberta.": "an AltDiffusion model",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 model",
    "model.diffusion_model.double_blocks.": "a Flux model",
    "double_blocks.": "a Flux model",
    "edm_mean": "a model of EDM's formulation (Playground v2.5)",
    "edm_vpred.sigma_max": "a model of EDM's formulation (CosXL)",
}
_METADATA_PREDICTIONS: Mapping[str, PredictionType] = {
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "epsilon": "eps",
    "eps": "eps",
}
_V_ARCHITECTURE = "stable-diffusion-v2-768-v"


def recognise(
    shapes: Shapes, *, name: str, config: ModelYaml | None = None, metadata: Mapping[str, str] | None = None
) -> Architecture:
    """The architecture of a checkpoint in a single file, from the shapes of its keys.

    :param config: the entries of the yaml beside it, which take precedence.
    :param metadata: a safetensors header's text entries.
    :raises ModelLoadError: the keys are those of no supported model.
    """
    for start, kind in _UNSUPPORTED.items():
        if any(key.startswith(start) for key in shapes):
            raise ModelLoadError(f"{name} is {kind}, which latentd does not run", hint=SUPPORTED)
    unet_shapes = {key[len(UNET_PREFIX) :]: shape for key, shape in shapes.items() if key.startswith(UNET_PREFIX)}
    if not unet_shapes:
        raise ModelLoadError(f"{name} holds no UNet, so it is not a checkpoint", hint=looks_like(shapes))
    layout = read_unet_layout(unet_shapes, name)
    family = _family(shapes)
    found = config or ModelYaml()
    # SD1 (whose projections are convolutions) has 8 heads everywhere, the later families heads of 64 channels.
    heads = 8 if found.head_channels is None and not layout.linear_projection else None
    unet = layout.diffusers_config(
        heads=found.heads or heads, head_channels=found.head_channels or 64, upcast_attention=family == "sd2"
    )
    return Architecture(
        family=family,
        variant=_variant(layout, name),
        unet=unet,
        vae=vae_config({k[len(VAE_PREFIX) :]: s for k, s in shapes.items() if k.startswith(VAE_PREFIX)}),
        text=_text_encoders(shapes, family, name),
        prediction_type=found.prediction_type or _prediction(family, layout, shapes, metadata or {}),
        scale_factor=found.scale_factor or SCALE_FACTORS[family],
        linear_start=found.linear_start or LINEAR_START,
        linear_end=found.linear_end or LINEAR_END,
        steps=found.steps or STEPS,
        zero_terminal_snr=_zero_terminal_snr(shapes, metadata or {}),
    )


def _family(shapes: Shapes) -> Family:
    if SDXL_KEY in shapes:
        return "sdxl"
    if REFINER_KEY in shapes:
        # Conversions of SD2-Turbo keep their one encoder, of width 1024, under SDXL's name.
        return "sd2" if shapes[REFINER_KEY][0] == 1024 else "sdxl-refiner"
    return "sd2" if SD2_KEY in shapes else "sd1"


def _variant(layout: UNetLayout, name: str) -> Variant:
    variants: dict[int, Variant] = {4: "base", 9: "inpainting", 8: "edit"}
    if layout.in_channels not in variants:
        raise ModelLoadError(f"{name} holds a UNet with {layout.in_channels} input channels; known are 4, 8 and 9")
    return variants[layout.in_channels]


def _prediction(
    family: Family, layout: UNetLayout, shapes: Shapes, metadata: Mapping[str, str]
) -> PredictionType | None:
    """The prediction type by an (empty) tensor ``v_pred``, or the metadata, or the family if that has only one.

    Metadata: ``modelspec.prediction_type`` (Stability AI's ModelSpec 1.0.0), ``modelspec.predict_key`` (ComfyUI),
    ``ss_v_parameterization`` (sd-scripts), and ModelSpec's architecture where its name implies it.
    """
    if "v_pred" in shapes:
        return "v"
    for key in ("modelspec.prediction_type", "modelspec.predict_key"):
        if (said := _METADATA_PREDICTIONS.get(metadata.get(key, "").strip().lower())) is not None:
            return said
    if _is_true(metadata, "ss_v_parameterization") or metadata.get("modelspec.architecture") == _V_ARCHITECTURE:
        return "v"
    # Only SD2 has models of both kinds with the same keys; its inpainting model predicts noise.
    return None if family == "sd2" and layout.in_channels == 4 else "eps"


def _zero_terminal_snr(shapes: Shapes, metadata: Mapping[str, str]) -> bool:
    """Whether the file has an (empty) tensor ``ztsnr``, or ``ss_zero_terminal_snr`` in its metadata."""
    return "ztsnr" in shapes or _is_true(metadata, "ss_zero_terminal_snr")


def _is_true(metadata: Mapping[str, str], key: str) -> bool:
    return metadata.get(key, "").strip().lower() in ("true", "1")


def vae_config(shapes: Shapes) -> dict[str, object] | None:
    """Arguments of ``AutoencoderKL`` for a VAE's key shapes (LDM's or diffusers' names, no prefix), None for no VAE.

    :raises ModelLoadError: the keys are incomplete.
    """
    named = {new: shapes[old] for new, old in vae_names(shapes).items()}
    if not any(key.startswith(("encoder.", "decoder.")) for key in named):
        return None
    try:
        widths: list[int] = []
        while (conv := named.get(f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight")) is not None:
            widths.append(conv[0])
        blocks = 0
        while f"encoder.down_blocks.0.resnets.{blocks}.conv1.weight" in named:
            blocks += 1
        return {
            "in_channels": named["encoder.conv_in.weight"][1],
            "out_channels": named["decoder.conv_out.weight"][0],
            "block_out_channels": tuple(widths),
            "layers_per_block": blocks,
            "latent_channels": named["decoder.conv_in.weight"][1],
            "down_block_types": ("DownEncoderBlock2D",) * len(widths),
            "up_block_types": ("UpDecoderBlock2D",) * len(widths),
            "mid_block_add_attention": "decoder.mid_block.attentions.0.to_q.weight" in named,
            "use_quant_conv": "quant_conv.weight" in named,
            "use_post_quant_conv": "post_quant_conv.weight" in named,
        }
    except KeyError as error:
        raise ModelLoadError(f"the VAE is incomplete: {error} is missing") from error


def _text_encoders(shapes: Shapes, family: Family, name: str) -> tuple[TextArchitecture, ...]:
    if family == "sdxl":
        first = _clip(shapes, "conditioner.embedders.0.transformer.", name)
        return (first, _openclip(shapes, "conditioner.embedders.1.model.", name))
    if family == "sdxl-refiner":
        return (_openclip(shapes, "conditioner.embedders.0.model.", name),)
    if family == "sd2":
        nested = REFINER_KEY in shapes
        found = _openclip(shapes, "conditioner.embedders.0.model." if nested else "cond_stage_model.model.", name)
        return (replace(found, lacks_last=found.layers == SD2_TEXT_LAYERS - 1),)
    return (_clip(shapes, "cond_stage_model.transformer.", name),)


def _clip(shapes: Shapes, prefix: str, name: str) -> TextArchitecture:
    # The first SD1 files were saved before ``text_model.`` was part of the name.
    inner = prefix + ("text_model." if any(k.startswith(f"{prefix}text_model.") for k in shapes) else "")
    return _text("clip", shapes, prefix, name, {
        "token": f"{inner}embeddings.token_embedding.weight",
        "position": f"{inner}embeddings.position_embedding.weight",
        "mlp": f"{inner}encoder.layers.0.mlp.fc1.weight",
        "layer": f"{inner}encoder.layers.{{}}.layer_norm1.weight",
    })  # fmt: skip


def _openclip(shapes: Shapes, prefix: str, name: str) -> TextArchitecture:
    return _text("openclip", shapes, prefix, name, {
        "token": f"{prefix}token_embedding.weight",
        "position": f"{prefix}positional_embedding",
        "mlp": f"{prefix}transformer.resblocks.0.mlp.c_fc.weight",
        "layer": f"{prefix}transformer.resblocks.{{}}.ln_1.weight",
    })  # fmt: skip


def _text(kind: str, shapes: Shapes, prefix: str, name: str, keys: Mapping[str, str]) -> TextArchitecture:
    missing = [keys[part] for part in ("token", "position", "mlp") if keys[part] not in shapes]
    if missing:
        raise ModelLoadError(f"{name} holds no complete text encoder: {missing[0]} is missing")
    vocabulary, width = shapes[keys["token"]]
    layers = 0
    while keys["layer"].format(layers) in shapes:
        layers += 1
    matrix, linear = shapes.get(f"{prefix}text_projection"), shapes.get(f"{prefix}text_projection.weight")
    return TextArchitecture(
        kind="clip" if kind == "clip" else "openclip",
        prefix=prefix,
        width=width,
        inner_width=shapes[keys["mlp"]][0],
        layers=layers,
        # Every CLIP and OpenCLIP text encoder in use has heads of 64 channels.
        heads=max(1, width // 64),
        vocabulary=vocabulary,
        positions=shapes[keys["position"]][0],
        projection=matrix[1] if matrix else (linear[0] if linear else None),
    )
