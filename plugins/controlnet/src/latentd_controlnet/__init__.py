"""ControlNet for latentd: the plugin's hooks. Nothing that takes time to import is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import AnyScript, OptionSpec, PreprocessorSpec, Services, hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter


@hookimpl
def register_options() -> list[OptionSpec]:
    """The extension's options."""
    from latentd_controlnet.options import OPTIONS

    return OPTIONS


@hookimpl
def register_preprocessors(services: Services) -> list[PreprocessorSpec]:
    """Every preprocessor, whether its weights are there or not."""
    from latentd_controlnet.preprocessors.table import specs

    return specs()


@hookimpl
def register_scripts() -> list[AnyScript]:
    """The always-on script and the selectable ``controlnet m2m``."""
    from latentd_controlnet.movie import MovieScript
    from latentd_controlnet.script import ControlNetScript

    return [ControlNetScript(), MovieScript()]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """The routes under ``/controlnet``."""
    from latentd_controlnet.routes import detect_router, list_router
    from latentd_controlnet.seed_routes import seed_router

    return [list_router(services), detect_router(services), seed_router(services)]
