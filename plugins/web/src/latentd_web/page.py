"""``/`` and the files of the page. All else that the page does goes through the server's public routes."""

from __future__ import annotations

import hashlib
import html
from functools import cache
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from latentd.api import APIRouter, JsonValue, NotFound, Services

ASSETS = "web-assets"
STATIC = Path(__file__).with_name("static")
#: File → its media type.
FILES = {
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
#: Scripts and styles come from this server, the only host that they may ask; pictures may be made in the page, too.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: A file's address has its content's hash, so that it may be kept for ever.
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
_PAGE_HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_PUBLIC: dict[str, JsonValue] = {"include_in_schema": False, "openapi_extra": {"x-public": True}}


def router(services: Services) -> APIRouter:
    """The routes. They are public: the page itself asks for credentials, and holds nothing that is secret."""
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"], **_PUBLIC)
    async def page(request: Request) -> Response:
        """The page: prompt to picture, in the browser."""
        return HTMLResponse(_document(services, request.scope.get("root_path", "")), headers=_PAGE_HEADERS)

    @routes.get(f"/{ASSETS}/{{name}}", **_PUBLIC)
    async def asset(name: str) -> FileResponse:
        """A script, style sheet or icon of the page."""
        if name not in FILES:
            raise NotFound("Not Found")
        return FileResponse(STATIC / name, media_type=FILES[name], headers=_KEPT)

    return routes


def _document(services: Services, root: str) -> str:
    """The page's HTML.

    :param root: the prefix below which clients see the server. Without one, addresses are relative, so that the page
        works below a prefix that only a proxy knows of.
    """
    settings = services.settings
    users, keys = bool(settings.api_auth), bool(settings.api_key or settings.api_keys_file)
    attributes = f'data-guarded="{_flag(users or keys)}" data-users="{_flag(users)}" data-keys="{_flag(keys)}"'
    address = {name: html.escape(f"{f'{root}/' if root else ''}{ASSETS}/{name}?{digest(name)}") for name in FILES}
    return (
        f'<!doctype html>\n<html lang="en" {attributes}>\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1, interactive-widget=resizes-content">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<title>latentd</title>\n"
        f'<link rel="icon" type="image/svg+xml" href="{address["icon.svg"]}">\n'
        f'<link rel="stylesheet" href="{address["app.css"]}">\n'
        f'<script type="module" src="{address["app.js"]}"></script>\n'
        '</head>\n<body>\n<div id="page"></div>\n'
        "<noscript>This page needs JavaScript. The API does not: see /docs.</noscript>\n</body>\n</html>\n"
    )


def _flag(value: bool) -> str:
    return str(value).lower()


@cache
def digest(name: str) -> str:
    """The beginning of the SHA-256 of a file of the page, in hexadecimal digits."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]
