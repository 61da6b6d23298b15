"""The JSON metadata of pictures made by NovelAI, converted to an infotext."""

from __future__ import annotations

import json
from collections.abc import Mapping

SAMPLERS: Mapping[str, str] = {
    "k_euler": "Euler",
    "k_euler_ancestral": "Euler a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_adaptive": "DPM adaptive",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_sde": "DPM++ SDE",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "ddim_v3": "DDIM",
    "plms": "PLMS",
}
_SCHEDULES: Mapping[str, str] = {
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
}
"""Values of ``noise_schedule``; ``native`` is the sampler's own."""


def novelai_infotext(items: Mapping[str, object], width: int, height: int) -> str | None:
    """The infotext of a picture whose text entries are ``items``; None if it is not NovelAI's, or is incomplete.

    An unknown sampler becomes Euler a.

    :param width: width of the picture; the size in NovelAI's metadata is not read.
    :param height: height of the picture.
    """
    if items.get("Software") != "NovelAI":
        return None
    try:
        made = json.loads(str(items["Comment"]))
        sampler = str(made["sampler"])
        schedule = _SCHEDULES.get(str(made.get("noise_schedule"))) if sampler.startswith("k_") else None
        return (
            f"{items['Description']}\n"
            f"Negative prompt: {made['uc']}\n"
            f"Steps: {made['steps']}, Sampler: {SAMPLERS.get(sampler, 'Euler a')}, "
            + (f"Schedule type: {schedule}, " if schedule else "")
            + f"CFG scale: {made['scale']}, Seed: {made['seed']}, "
            f"Size: {width}x{height}, Clip skip: 2, ENSD: 31337"
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
