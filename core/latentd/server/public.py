"""Which requests need no credentials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import Match
from starlette.types import Scope

# AUTOMATIC1111 serves its documentation to everybody, too.
DOCUMENTATION = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})


class PublicRoutes:
    """Routes marked ``openapi_extra={"x-public": True}``, and the documentation."""

    def __init__(self, routes: Iterable[Any]) -> None:
        self._routes = [route for route in routes if (getattr(route, "openapi_extra", None) or {}).get("x-public")]

    def __call__(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        if scope["path"].removeprefix(scope.get("root_path", "")) in DOCUMENTATION:
            return True
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)
