"""The API's documentation for people: Swagger UI and ReDoc, from an installed package and without the internet."""

from __future__ import annotations

import html
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import FileResponse, HTMLResponse

from latentd.errors import NotFound
from latentd.server.pages import scripted_page
from latentd.server.routing import APIRouter
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.server.services import AppServices

ASSETS = "/docs-assets"
#: The distribution that carries the scripts of Swagger UI and ReDoc.
PACKAGE = "fastapi_offline"
_THEIRS = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")
_OURS = ("swagger.js",)
_HOUR = {"Cache-Control": "public, max-age=3600"}
_PUBLIC: dict[str, JsonValue] = {"include_in_schema": False, "openapi_extra": {"x-public": True}}


def router(services: AppServices) -> APIRouter:
    """Routes ``/docs`` and ``/redoc``, and what they load; public, as AUTOMATIC1111's are."""
    routes = APIRouter()

    @routes.get("/docs", **_PUBLIC)
    async def docs(request: Request) -> HTMLResponse:
        """Every endpoint, to read and to try."""
        root = html.escape(request.scope.get("root_path", ""))
        body = (
            f'<div id="swagger-ui"></div>\n<script src="{root}{ASSETS}/swagger-ui-bundle.js"></script>\n'
            f'<script src="{root}{ASSETS}/swagger.js" data-openapi="{root}/openapi.json"></script>'
        )
        return scripted_page("latentd: endpoints", body, styles=[f"{root}{ASSETS}/swagger-ui.css"])

    @routes.get("/redoc", **_PUBLIC)
    async def redoc(request: Request) -> HTMLResponse:
        """Every endpoint, to read."""
        root = html.escape(request.scope.get("root_path", ""))
        body = (
            f'<redoc spec-url="{root}/openapi.json"></redoc>\n'
            f'<script src="{root}{ASSETS}/redoc.standalone.js"></script>'
        )
        return scripted_page("latentd: endpoints", body)

    @routes.get(ASSETS + "/{name}", **_PUBLIC)
    async def asset(name: str) -> FileResponse:
        """A script or style sheet of these pages."""
        if name in _OURS:
            return FileResponse(Path(__file__).parents[1] / "static" / name, headers=_HOUR)
        if name in _THEIRS:
            return FileResponse(_folder() / name, headers=_HOUR)
        raise NotFound("Not Found")

    return routes


@cache
def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the documentation's scripts are not installed", hint="pip install fastapi-offline")
    return Path(spec.submodule_search_locations[0]) / "static"
