"""Units in infotexts under the original's keys: ``ADetailer model: x``; of the second unit ``ADetailer model 2nd``."""

from __future__ import annotations

from collections.abc import Mapping

from latentd.api import JsonValue
from latentd_detailer.arguments import MOST_UNITS, DetailerArgs
from latentd_detailer.unit import NONE, Unit

#: The version of the original whose keys and arguments these are.
VERSION = "25.3.0"
_VERSION_KEY = "ADetailer version"
#: Field → key, in the order of writing.
KEYS = {
    "ad_model": "ADetailer model",
    "ad_model_classes": "ADetailer model classes",
    "ad_prompt": "ADetailer prompt",
    "ad_negative_prompt": "ADetailer negative prompt",
    "ad_confidence": "ADetailer confidence",
    "ad_mask_filter_method": "ADetailer method to decide top k masks",
    "ad_mask_k": "ADetailer mask only top k",
    "ad_mask_min_ratio": "ADetailer mask min ratio",
    "ad_mask_max_ratio": "ADetailer mask max ratio",
    "ad_x_offset": "ADetailer x offset",
    "ad_y_offset": "ADetailer y offset",
    "ad_dilate_erode": "ADetailer dilate erode",
    "ad_mask_merge_invert": "ADetailer mask merge invert",
    "ad_mask_blur": "ADetailer mask blur",
    "ad_denoising_strength": "ADetailer denoising strength",
    "ad_inpaint_only_masked": "ADetailer inpaint only masked",
    "ad_inpaint_only_masked_padding": "ADetailer inpaint padding",
    "ad_use_inpaint_width_height": "ADetailer use inpaint width height",
    "ad_inpaint_width": "ADetailer inpaint width",
    "ad_inpaint_height": "ADetailer inpaint height",
    "ad_use_steps": "ADetailer use separate steps",
    "ad_steps": "ADetailer steps",
    "ad_use_cfg_scale": "ADetailer use separate CFG scale",
    "ad_cfg_scale": "ADetailer CFG scale",
    "ad_use_checkpoint": "ADetailer use separate checkpoint",
    "ad_checkpoint": "ADetailer checkpoint",
    "ad_use_vae": "ADetailer use separate VAE",
    "ad_vae": "ADetailer VAE",
    "ad_use_sampler": "ADetailer use separate sampler",
    "ad_sampler": "ADetailer sampler",
    "ad_scheduler": "ADetailer scheduler",
    "ad_use_noise_multiplier": "ADetailer use separate noise multiplier",
    "ad_noise_multiplier": "ADetailer noise multiplier",
    "ad_use_clip_skip": "ADetailer use separate CLIP skip",
    "ad_clip_skip": "ADetailer CLIP skip",
    "ad_restore_face": "ADetailer restore face",
    "ad_controlnet_model": "ADetailer ControlNet model",
    "ad_controlnet_module": "ADetailer ControlNet module",
    "ad_controlnet_weight": "ADetailer ControlNet weight",
    "ad_controlnet_guidance_start": "ADetailer ControlNet guidance start",
    "ad_controlnet_guidance_end": "ADetailer ControlNet guidance end",
}
#: Fields that are written only if they differ from their defaults.
_SHORT = frozenset(
    {
        "ad_model_classes", "ad_prompt", "ad_negative_prompt", "ad_mask_k", "ad_mask_min_ratio", "ad_mask_max_ratio",
        "ad_x_offset", "ad_y_offset", "ad_mask_merge_invert", "ad_scheduler", "ad_restore_face", "ad_controlnet_model",
        "ad_controlnet_module", "ad_controlnet_weight", "ad_controlnet_guidance_start", "ad_controlnet_guidance_end",
    }
)  # fmt: skip
#: Field → the fields that are written with it: they are left out with a value that switches it off.
_WITH = {
    "ad_mask_k": ("ad_mask_filter_method",),
    "ad_inpaint_only_masked": ("ad_inpaint_only_masked_padding",),
    "ad_use_inpaint_width_height": ("ad_inpaint_width", "ad_inpaint_height"),
    "ad_use_steps": ("ad_steps",),
    "ad_use_cfg_scale": ("ad_cfg_scale",),
    "ad_use_checkpoint": ("ad_checkpoint",),
    "ad_use_vae": ("ad_vae",),
    "ad_use_sampler": ("ad_sampler", "ad_scheduler"),
    "ad_use_noise_multiplier": ("ad_noise_multiplier",),
    "ad_use_clip_skip": ("ad_clip_skip",),
    "ad_controlnet_model": (
        "ad_controlnet_module", "ad_controlnet_weight", "ad_controlnet_guidance_start", "ad_controlnet_guidance_end",
    ),
}  # fmt: skip
#: Switches that are left out when they are off.
_SWITCHES = frozenset(name for name in _WITH if name.startswith("ad_use_"))
_TRUTH = {"True": True, "False": False}


def written(args: DetailerArgs) -> dict[str, JsonValue]:
    """The entries of all units, and the version."""
    entries: dict[str, JsonValue] = {}
    for numbered in args.units:
        suffix = _suffix(numbered.number)
        entries |= {KEYS[name] + suffix: value for name, value in _told(numbered.unit).items()}
    return {**entries, _VERSION_KEY: VERSION}


def read(entries: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    """The units that the entries of an infotext tell; empty without any. A gap between them is a unit that is off."""
    units = [_unit(entries, _suffix(number)) for number in range(MOST_UNITS)]
    while units and "ad_model" not in units[-1]:
        units.pop()
    return units


def _unit(entries: Mapping[str, JsonValue], suffix: str) -> dict[str, JsonValue]:
    # The readers of infotexts may have parted a value of the form AxB; a prompt may be one.
    found = {name: entries.get(key + suffix) for name, key in KEYS.items()}
    # The original of mid-2024 and before, and clients of it.
    found["ad_mask_k"] = found["ad_mask_k"] or entries.get("ADetailer mask only top k largest" + suffix)
    return {name: _TRUTH.get(value, value) for name, value in found.items() if isinstance(value, str)}


def _told(unit: Unit) -> dict[str, JsonValue]:
    """The fields of a unit that are written."""
    hidden = {name for name in _SHORT if getattr(unit, name) == Unit.model_fields[name].default}
    hidden |= {name for name in _SWITCHES if not getattr(unit, name)}
    for name, others in _WITH.items():
        if getattr(unit, name) in (0, False, NONE):
            hidden.update(others)
    values = {name: getattr(unit, name) for name in KEYS if name not in hidden}
    return {name: value for name, value in values.items() if value is not None}


def _suffix(number: int) -> str:
    """The end of the keys of unit ``number`` (from 0): nothing, " 2nd", " 3rd", " 4th"..."""
    count = number + 1
    if count == 1:
        return ""
    ending = "th" if 10 <= count % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f" {count}{ending}"
