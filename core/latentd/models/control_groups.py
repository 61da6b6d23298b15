"""The control groups (cgroups) of this process, on Linux: what a container may use of its host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def control_groups(controller: str, membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> Iterator[tuple[Path, int]]:
    """(folder, version 1 or 2) of each group of this process that has ``controller``, and of the groups above it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base, version = (root / controller, 1) if controllers else (root, 2)
        group = base / path.lstrip("/")
        # In a container the path may be that of the host, and only the root exists.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            yield folder, version
