"""The owners of routes, so that no plugin shadows the routes of another or of the core."""

from __future__ import annotations

import re
from collections.abc import Iterable

from latentd.plugins.contribution import Router

PARAMETER = re.compile(r"\{[^}]*\}")
RouteKey = tuple[str, str]


def route_keys(router: Router) -> list[RouteKey]:
    """(method, path) of every route of a router or application; parameters of paths are written ``/a/{}``."""
    keys = []
    for route in router.routes:
        path = PARAMETER.sub("{}", getattr(route, "path", ""))
        methods = getattr(route, "methods", None) or ("*",)
        # Starlette adds HEAD to every GET.
        keys += [(method, path) for method in sorted(methods) if method != "HEAD"]
    return keys


class RouteTable:
    """Routes by owner."""

    def __init__(self) -> None:
        self._owners: dict[RouteKey, str] = {}

    def clashes(self, routers: Iterable[Router]) -> list[str]:
        """One sentence for each route of ``routers`` that is taken, or that they offer twice."""
        found, seen = [], set()
        for method, path in (key for router in routers for key in route_keys(router)):
            if owner := self._owners.get((method, path)):
                found.append(f"route {method} {path} belongs to {owner}")
            elif (method, path) in seen:
                found.append(f"route {method} {path} is offered twice")
            seen.add((method, path))
        return found

    def add(self, owner: str, routers: Iterable[Router]) -> None:
        """Record the routes of ``owner``; also used for routes that are not mounted by the host (documentation)."""
        for key in (key for router in routers for key in route_keys(router)):
            self._owners.setdefault(key, owner)

    def remove(self, owner: str) -> None:
        """Remove the routes of ``owner``."""
        self._owners = {key: other for key, other in self._owners.items() if other != owner}
