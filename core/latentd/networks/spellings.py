"""How trainers spell a tensor's name in a network file, and the one canonical name for all spellings.

A key names the part of the model (the UNet or a text encoder), a module of it, and a parameter of that. Trainers
differ in all three; the tables below list what each writes. ``canonical("unet.mid_block.attentions.0.proj_in.lora_A.
weight")`` and ``canonical("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight")`` are the same name. A path may
be diffusers' or LDM's: :mod:`latentd.networks.names` lists both for a model.

Sources: files and documentation of kohya's sd-scripts, LyCORIS, AUTOMATIC1111, diffusers (0.11 to 0.35), PEFT,
OneTrainer, SimpleTuner, ai-toolkit and ComfyUI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Owner = Literal["unet", "te", "te1", "te2", "first", "any"]
"""The part of the model that a name is for. ``te``: the only text encoder (SD 1, SD 2); ``te1`` and ``te2``: SDXL's
two; ``first``: the only one or the first of two; ``any``: the name does not say."""

#: Prefixes of a module's path, with underscores for dots; the longest that fits counts.
OWNERS: dict[str, Owner] = {
    # kohya's sd-scripts, LyCORIS, AUTOMATIC1111; with dots for underscores, OneTrainer's inner names
    "lora_unet": "unet",
    "oft_unet": "unet",
    "lora_te": "te",
    "oft_te": "te",
    "lora_te1": "first",
    "oft_te1": "first",
    "lora_te2": "te2",
    "oft_te2": "te2",
    # diffusers, PEFT, SimpleTuner
    "unet": "unet",
    "text_encoder": "first",
    "text_encoder_2": "te2",
    # OneTrainer's and the Open Model Initiative's
    "clip_l": "first",
    "clip_g": "te2",
    "clip_h": "te",
    # checkpoints' own names, ComfyUI and ai-toolkit
    "diffusion_model": "unet",
    "model_diffusion_model": "unet",
    "text_encoders_clip_l_transformer": "first",
    "text_encoders_clip_g_transformer": "te2",
    "text_encoders_clip_h_transformer": "te",
    "clip_l_transformer": "first",
    "clip_g_transformer": "te2",
    "clip_h_transformer": "te",
    "cond_stage_model_transformer": "te",
    "cond_stage_model_model": "te",
    "conditioner_embedders_0_transformer": "te1",
    "conditioner_embedders_0_model": "te",
    "conditioner_embedders_1_model": "te2",
    # AUTOMATIC1111's names of its own modules
    "transformer": "te",
    "model": "te",
    "0_transformer": "te1",
    "0_model": "te",
    "1_model": "te2",
}

#: Prefixes that wrappers of PEFT and torch, LyCORIS and SimpleTuner add, and that say nothing about a module.
WRAPPERS = ("base_model_model", "lycoris", "_orig_mod", "module")

_UP_DOWN = {"down": "lora_down", "up": "lora_up", "mid": "lora_mid", "A": "lora_down", "B": "lora_up"}
#: ``.lora_down.weight``, ``.lora.down.weight``, ``_lora.down.weight`` (attention processors of 2023),
#: ``.lora_linear_layer.down.weight``, ``.lora_A.weight``, ``.lora_A.<adapter>.weight``, ``.lora_A``.
_LORA = re.compile(
    r"(?P<module>.+?)[._]lora(?:_linear_layer)?[._](?P<side>down|up|mid|A|B)"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.(?P<what>weight|bias))?"
)
#: ``.alpha``, ``.lora.alpha``, ``_lora.alpha``
_ALPHA = re.compile(r"(?P<module>.+?)(?:[._]lora(?:_linear_layer)?)?\.alpha(?:\.default)?")
#: PEFT's norms of DoRA, one per output: ``.lora_magnitude_vector``, ``.lora_magnitude_vector.<adapter>.weight``
_MAGNITUDE = re.compile(r"(?P<module>.+?)\.lora_magnitude_vector(?:\.(?!weight$)[^.]+)?(?:\.weight)?")
#: OneTrainer's and PEFT's rotations of the input: ``.oft_R.weight``, ``.oft_R.<adapter>.weight``, ``.oft_R.scaled_oft``
_ROTATION = re.compile(
    r"(?P<module>.+?)\.(?P<parameter>oft_R)(?:\.(?!weight$|scaled_oft$)[^.]+)?\.(?P<what>weight|scaled_oft)"
)
#: The other weights, which all trainers name alike; PEFT adds the adapter's name.
_OTHER = re.compile(
    r"(?P<module>.+?)\.(?P<parameter>dora_scale|scale|hada_[wt][12](?:_[ab])?|lokr_w[12](?:_[ab])?|lokr_t2|"
    r"oft_blocks|oft_diag|rescale|diff_b|diff|[wb]_norm|[ab][12]\.weight|initial_norm|on_input|weight|bias)(?:\.default)?"
)
MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True)
class ModuleName:
    """A module as a file names it.

    :param path: the path with underscores for dots and without a prefix.
    :param spelling: the name in the file, for messages.
    :param kohya: whether it is spelled as sd-scripts does, the spelling that AUTOMATIC1111 1.8 reads; the quirks of its
        reading apply to no other spelling.
    """

    owner: Owner
    path: str
    spelling: str = field(compare=False, default="")
    kohya: bool = field(compare=False, default=False)


@dataclass(frozen=True, slots=True)
class TensorName:
    """The canonical name of one tensor, without the names that PEFT gives adapters."""

    module: ModuleName
    parameter: str


def canonical(key: str) -> TensorName:
    """The canonical name for ``key``; an unknown parameter keeps its name."""
    module, parameter = _split(key)
    return TensorName(module_name(module), parameter)


def module_name(spelling: str) -> ModuleName:
    """The module that the part of a key before the parameter's name means."""
    flat = spelling.replace(".processor.", ".").removesuffix(".processor").replace(".", "_")
    flat = _unwrapped(flat)
    prefix = max((p for p in OWNERS if flat.startswith(f"{p}_")), key=len, default="")
    path = _unwrapped(flat.removeprefix(f"{prefix}_")) if prefix else flat
    owner: Owner = OWNERS[prefix] if prefix else "any"
    if owner != "unet":
        path = path.removeprefix("text_model_")
    kohya = prefix.startswith(("lora_", "oft_")) and "." not in spelling
    return ModuleName(owner, path, spelling, kohya)


def _unwrapped(flat: str) -> str:
    while (wrapper := next((w for w in WRAPPERS if flat.startswith(f"{w}_")), None)) is not None:
        flat = flat.removeprefix(f"{wrapper}_")
    return flat


def _split(key: str) -> tuple[str, str]:
    """The spelling of the module in ``key``, and the canonical parameter."""
    if match := _LORA.fullmatch(key):
        return match["module"], f"{_UP_DOWN[match['side']]}.{match['what'] or 'weight'}"
    if match := _MAGNITUDE.fullmatch(key):
        return match["module"], MAGNITUDE
    if match := _ALPHA.fullmatch(key):
        return match["module"], "alpha"
    if match := _ROTATION.fullmatch(key):
        return match["module"], f"oft_R.{match['what']}"
    if match := _OTHER.fullmatch(key):
        return match["module"], match["parameter"]
    module, _, parameter = key.rpartition(".")
    return (module, parameter) if module else (key, "")
