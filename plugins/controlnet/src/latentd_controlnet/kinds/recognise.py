"""Recognising the kind of a control model by its keys (rules: a1111-controlnet-recognition)."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from latentd.api import ModelLoadError


class Kind(StrEnum):
    """Kinds of control model."""

    CONTROL_LORA = "control-LoRA"
    SPARSE = "SparseCtrl"
    CONTROLNET = "ControlNet"
    INSTANT_ID = "InstantID ControlNet"
    T2I_ADAPTER = "T2I-Adapter"
    T2I_STYLE = "T2I style adapter"
    T2I_LIGHT = "T2I light adapter"
    IP_ADAPTER = "IP-Adapter"
    LLLITE = "ControlLLLite"


PREFIXES = ("control_model.", "adapter.")
DIFFUSERS_HINT = "controlnet_cond_embedding.conv_in.weight"
LDM_HINT = "input_hint_block.0.weight"
DIFFUSERS_ADAPTER = "body.0.resnets.0.block1.weight"
_SPARSE = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
_INSTANT_ID = ("instant_id", "instantid", "instant-id")
#: Keys that decide the kind by their presence, in the order in which they are looked for.
_TELLING = (
    ("lora_controlnet", Kind.CONTROL_LORA),
    (_SPARSE, Kind.SPARSE),
    (DIFFUSERS_HINT, Kind.CONTROLNET),
    (LDM_HINT, Kind.CONTROLNET),
    (DIFFUSERS_ADAPTER, Kind.T2I_ADAPTER),
    ("conv_in.weight", Kind.T2I_ADAPTER),
    ("style_embedding", Kind.T2I_STYLE),
    ("body.0.in_conv.weight", Kind.T2I_LIGHT),
)


def recognise(keys: Collection[str], name: str) -> Kind:
    """The kind of a file with ``keys``, whether their prefixes are stripped or not.

    :raises ModelLoadError: it is of no known kind.
    """
    stripped = {strip(key) for key in keys}
    for key, kind in _TELLING:
        if key in stripped:
            # InstantID's ControlNet has the same keys and shapes as any other for SDXL; only its name differs.
            named_so = kind == Kind.CONTROLNET and any(part in name.lower() for part in _INSTANT_ID)
            return Kind.INSTANT_ID if named_so else kind
    if any(key == "ip_adapter" or key.startswith("ip_adapter.") for key in stripped):
        return Kind.IP_ADAPTER
    if any("lllite" in key for key in stripped):
        return Kind.LLLITE
    raise ModelLoadError(
        f"ControlNet model {name} cannot be recognised by its weights", hint="is it a checkpoint or a LoRA by mistake?"
    )


def strip(key: str) -> str:
    """``key`` without the prefix of the format's training code."""
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key
