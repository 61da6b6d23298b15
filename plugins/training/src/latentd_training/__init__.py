"""Training for latentd: what the plugin registers. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentd.api import Generation, Services, UNetHook, hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = ["register_routes", "unet_hooks"]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """The routes of training."""
    from latentd_training.routes import own_router, sdapi_router

    return [sdapi_router(services), own_router(services)]


@hookimpl
def unet_hooks(generation: Generation) -> Sequence[UNetHook]:
    """What is in training takes part in its own previews, and in no other generation."""
    from latentd_training.previews import hooks_for

    return hooks_for(generation)
