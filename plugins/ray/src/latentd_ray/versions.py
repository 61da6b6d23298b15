"""What has to be the same on every machine, because both ends of an actor exchange this program's own objects."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points, version

Versions = Mapping[str, str]
CORE = "latentd"


def versions_here() -> dict[str, str]:
    """Python's version up to the minor one, and those of latentd and its installed plugins."""
    found = {"Python": ".".join(map(str, sys.version_info[:2])), CORE: version(CORE)}
    found |= {point.dist.name: point.dist.version for point in entry_points(group=CORE) if point.dist is not None}
    return found


def difference(server: Versions, machine: Versions) -> str | None:
    """What differs between the server and a machine of the cluster, in one sentence; None if nothing does."""
    differing = [
        f"{name} is {server.get(name, 'not installed')} on the server and {machine.get(name, 'not installed')} there"
        for name in sorted({*server, *machine})
        if server.get(name) != machine.get(name)
    ]
    return "; ".join(differing) or None
