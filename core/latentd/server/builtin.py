"""The core's own routes, registered through the hook that plugins use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from latentd.hookspecs import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

    from latentd.server.services import AppServices

FAMILIES = (
    *("generation", "jobs", "events", "tickets", "progress", "extras", "images"),
    *("options", "lists", "model_files", "extra_networks", "server", "internal", "documentation"),
)


@hookimpl
def register_routes(services: AppServices) -> list[APIRouter]:
    """One router for each family of endpoints."""
    return [import_module(f"latentd.server.routes.{family}").router(services) for family in FAMILIES]
