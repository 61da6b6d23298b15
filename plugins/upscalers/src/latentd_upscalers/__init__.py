"""Upscalers with models for latentd, through spandrel. This module imports neither torch nor spandrel."""

from __future__ import annotations

from latentd.api import Services, UpscalerSpec, hookimpl
from latentd_upscalers.discovery import find_upscalers

__all__ = ["register_upscalers"]


@hookimpl
def register_upscalers(services: Services) -> list[UpscalerSpec]:
    """One entry for each model file in AUTOMATIC1111's folders, and for each model that it lists without a file."""
    return find_upscalers(services)
