"""The free memory of the machine, within the limits of this process and its control groups, and of a device.

This module can be imported without torch; the functions that need torch import it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.errors import TooLarge
from latentd.models.control_groups import CGROUPS, MEMBERSHIP, control_groups

if TYPE_CHECKING:
    import torch

GIBIBYTE = 1 << 30
#: Files of control groups, versions 2 and 1: limit, use, and the name of the part of the use that can be reclaimed.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory(device: torch.device | None = None) -> int | None:
    """Bytes that a job may use on ``device`` (by default in main memory); None if that is unknown.

    For main memory this is the smallest of what is free in the machine, within RLIMIT_AS, and within the control groups
    of the process. For a CUDA device it is everything that neither tensors of this process nor other processes use.
    """
    if device is not None and device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device is not None and device.type != "cpu":
        return None
    return min((*_of_machine(), *_of_process(), *_of_groups()), default=None)


def require_memory(needed: int, what: str, *, hint: str, device: torch.device | None = None) -> None:
    """Refuse work that memory cannot hold, before it starts.

    Linux grants more memory than there is, and kills a process that then uses it.

    :param needed: bytes, estimated rather too low than too high.
    :param what: subject of the error's sentence, as "a batch of 4".
    :param hint: what the user can do.
    :param device: whose memory; by default main memory.
    :raises TooLarge: there is less; it names both amounts.
    """
    free = free_memory(device)
    if free is not None and needed > free:
        there = f"{free / GIBIBYTE:.1f} GiB are free"
        raise TooLarge(f"{what} needs at least {needed / GIBIBYTE:.1f} GiB of memory, {there}", hint=hint)


def _of_machine() -> Iterator[int]:
    with suppress(ImportError, OSError):
        import psutil  # type: ignore[import-untyped]

        yield int(psutil.virtual_memory().available)


def _of_process() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with suppress(ImportError, OSError):
            import psutil

            yield max(limit - int(psutil.Process().memory_info().vms), 0)


def _of_groups(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> Iterator[int]:
    """The memory that is left in each control group of this process, and in the groups above it."""
    for folder, version in control_groups("memory", membership, root):
        if (left := _left_in(folder, *(_V1 if version == 1 else _V2))) is not None:
            yield left


def _left_in(folder: Path, limit_name: str, use_name: str, pages_name: str) -> int | None:
    try:
        limit, use = int((folder / limit_name).read_text()), int((folder / use_name).read_text())
        counted = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # the file is missing, or says "max"
        return None
    return max(limit - use + int(counted.get(pages_name, 0)), 0)
