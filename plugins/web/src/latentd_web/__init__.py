"""A page at ``/`` from which pictures are drawn in the browser. Importing this pulls in neither FastAPI nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentd.api import Services, hookimpl

if TYPE_CHECKING:
    from latentd.api import APIRouter

__all__ = ["register_routes"]


@hookimpl
def register_routes(services: Services) -> list[APIRouter]:
    """The page, and the files that it loads."""
    from latentd_web.page import router

    return [router(services)]
