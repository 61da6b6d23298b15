"""Which requests need no credentials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import Match
from starlette.types import Scope

# AUTOMATIC1111 serves its documentation to everybody, too; the pages that show it are marked.
DOCUMENT = "/openapi.json"


class MarkedRoutes:
    """Routes with ``mark`` in their ``openapi_extra``, as ``{"x-public": True}``, and ``others``."""

    def __init__(self, routes: Iterable[Any], mark: str, *others: Any) -> None:
        marked = (route for route in routes if (getattr(route, "openapi_extra", None) or {}).get(mark))
        self._routes = [*marked, *others]

    def __call__(self, scope: Scope) -> bool:
        return scope["type"] == "http" and any(route.matches(scope)[0] is Match.FULL for route in self._routes)


class PublicRoutes(MarkedRoutes):
    """Routes marked ``x-public``, and the OpenAPI document."""

    def __init__(self, routes: Iterable[Any]) -> None:
        super().__init__(routes, "x-public")

    def __call__(self, scope: Scope) -> bool:
        return super().__call__(scope) or (scope["type"] == "http" and route_path(scope) == DOCUMENT)


def route_path(scope: Scope) -> str:
    """The path of a request below the prefix of ``--subpath``, whether the proxy has stripped that or not."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
