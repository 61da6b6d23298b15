"""Names of samplers and schedules in the infotexts of other programs: NovelAI's, and those of ComfyUI's nodes.

Several nodes that save ComfyUI's pictures write infotexts, and ComfyUI's names into them: ``Sampler: euler_ancestral``,
``dpmpp_2m_karras``, ``dpmpp_2m karras``, and the schedule under the key ``Scheduler``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from latentd.infotext.novelai import SAMPLERS as NOVELAI

_COMFYUI: Mapping[str, str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE",
    "lcm": "LCM",
    "ddim": "DDIM",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
}
_SCHEDULES: Mapping[str, str] = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
}
_WITH_SCHEDULE = re.compile(rf"(?P<sampler>\w+?)[_ ](?P<schedule>{'|'.join(_SCHEDULES)})")


def sampler_name(name: str) -> str | None:
    """AUTOMATIC1111's name for another program's ``name`` of a sampler, a schedule behind it; None if it is unknown."""
    lower = name.lower()
    if (found := NOVELAI.get(lower) or _COMFYUI.get(lower)) is not None:
        return found
    match = _WITH_SCHEDULE.fullmatch(lower)
    if match is None or (found := _COMFYUI.get(match["sampler"])) is None:
        return None
    return f"{found} {_SCHEDULES[match['schedule']]}"


def schedule_name(name: str) -> str:
    """AUTOMATIC1111's name for ComfyUI's ``name`` of a schedule; any other name is returned unchanged."""
    return _SCHEDULES.get(name.lower(), name)
