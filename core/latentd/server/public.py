"""Which requests need no credentials."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

# AUTOMATIC1111, too, serves its documentation without credentials. The pages that show it are marked as public.
DOCUMENT = "/openapi.json"


class MarkedRoutes:
    """Whether a request goes to a route with ``mark`` in its ``openapi_extra``, or to one of ``others``."""

    def __init__(self, routes: Iterable[BaseRoute], mark: str, *others: BaseRoute) -> None:
        marked = (route for route in routes if (getattr(route, "openapi_extra", None) or {}).get(mark))
        self._routes = [*marked, *others]

    def __call__(self, scope: Scope) -> bool:
        """Return whether the request goes to one of the routes."""
        return scope["type"] == "http" and any(route.matches(scope)[0] is Match.FULL for route in self._routes)


class PublicRoutes(MarkedRoutes):
    """Routes marked ``x-public``, and the OpenAPI document."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        super().__init__(routes, "x-public")

    def __call__(self, scope: Scope) -> bool:
        """Return whether the request goes to a public route or asks for the OpenAPI document."""
        return super().__call__(scope) or (scope["type"] == "http" and route_path(scope) == DOCUMENT)


def route_path(scope: Scope) -> str:
    """The path of a request below the prefix of ``--subpath``, whether or not the proxy has removed the prefix."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
