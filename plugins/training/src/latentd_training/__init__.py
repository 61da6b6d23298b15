"""Training for latentd: what the plugin registers. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Services, hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = ["register_routes"]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """The routes of training."""
    from latentd_training.routes import own_router, sdapi_router

    return [sdapi_router(services), own_router(services)]
