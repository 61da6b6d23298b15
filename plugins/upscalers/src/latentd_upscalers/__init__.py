"""Model upscalers for latentd, through spandrel. Importing this pulls in neither torch nor spandrel."""

from __future__ import annotations

from latentd.api import Services, UpscalerSpec, hookimpl
from latentd_upscalers.discovery import find_upscalers

__all__ = ["register_upscalers"]


@hookimpl
def register_upscalers(services: Services) -> list[UpscalerSpec]:
    """One entry for each model file in AUTOMATIC1111's folders, and those that it lists without having them."""
    return find_upscalers(services)
