"""Guidance techniques for latentd, each an always-on script. Importing this pulls in no torch."""

from __future__ import annotations

from typing import Any

from latentd.api import Script, hookimpl
from latentd_guidance.dynamic_thresholding import DynamicThresholding
from latentd_guidance.forge_couple import ForgeCouple
from latentd_guidance.freeu import FreeU
from latentd_guidance.kohya_hrfix import KohyaHRFix
from latentd_guidance.multidiffusion import MultiDiffusion
from latentd_guidance.perturbed_attention import PerturbedAttention
from latentd_guidance.rescale_cfg import RescaleCFG
from latentd_guidance.self_attention import SelfAttention

__all__ = ["register_scripts"]


@hookimpl
def register_scripts() -> list[Script[Any]]:
    """The techniques, in Forge's order, and Forge Couple."""
    return [
        DynamicThresholding(),
        FreeU(),
        SelfAttention(),
        PerturbedAttention(),
        KohyaHRFix(),
        RescaleCFG(),
        MultiDiffusion(),
        ForgeCouple(),
    ]
