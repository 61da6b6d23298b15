"""AUTOMATIC1111's scripts for latentd. This module imports no torch."""

from __future__ import annotations

from latentd.api import AnyScript, OptionSpec, Services, hookimpl
from latentd_scripts.alternative_test import AlternativeTest
from latentd_scripts.custom_code import CustomCode
from latentd_scripts.dynamic.arguments import OPTIONS
from latentd_scripts.dynamic.script import DynamicPrompts
from latentd_scripts.loopback import Loopback
from latentd_scripts.outpainting_mk2 import OutpaintingMk2
from latentd_scripts.poor_mans_outpainting import PoorMansOutpainting
from latentd_scripts.prompt_matrix import PromptMatrix
from latentd_scripts.prompts_from_file import PromptsFromFile
from latentd_scripts.sd_upscale import SDUpscale
from latentd_scripts.soft_inpainting import SoftInpainting
from latentd_scripts.ultimate.script import UltimateUpscale
from latentd_scripts.xyz.script import XYZPlot

__all__ = ["register_options", "register_scripts", "startup"]


@hookimpl
def register_options() -> list[OptionSpec]:
    """The options of Dynamic Prompts."""
    return OPTIONS


@hookimpl
def register_scripts() -> list[AnyScript]:
    """The selectable scripts in AUTOMATIC1111's order, and the always-on ones."""
    return [
        AlternativeTest(),
        CustomCode(),
        Loopback(),
        OutpaintingMk2(),
        PoorMansOutpainting(),
        PromptMatrix(),
        PromptsFromFile(),
        SDUpscale(),
        UltimateUpscale(),
        XYZPlot(),
        SoftInpainting(),
        DynamicPrompts(),
    ]


@hookimpl
def startup(services: Services) -> None:
    """Give the scripts what their lists depend on: the server's upscalers, and whether code may be sent."""
    for script in services.registry.scripts.values():
        if isinstance(script, (SDUpscale, UltimateUpscale)):
            script.services = services
        elif isinstance(script, CustomCode):
            script.listed = bool(services.settings.allow_code)
