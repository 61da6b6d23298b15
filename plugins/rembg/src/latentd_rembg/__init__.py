"""Background removal for latentd. Importing this pulls in neither onnxruntime nor FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Services, hookimpl

if TYPE_CHECKING:
    from latentd.api import APIRouter

__all__ = ["register_routes"]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """``/rembg`` and ``/sdapi/v1/rembg``."""
    from latentd_rembg.routes import router

    return [router(services)]
