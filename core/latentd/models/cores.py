"""How many threads one operation on the CPU should use: the cores that this process really has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from latentd.models.control_groups import CGROUPS, MEMBERSHIP, control_groups

CPUS = Path("/sys/devices/system/cpu")
#: Variables by which the user sets the number; torch follows them by itself.
SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def use_own_cores() -> None:
    """Let torch use :func:`usable_cores` threads, unless the environment says how many. Imports torch.

    By itself torch counts the machine's processors, so that in a container with a share of them every operation waits
    for threads that may not run; and two threads on one core share its arithmetic units.
    """
    if any(os.environ.get(name) for name in SET_BY_USER):
        return
    import torch

    if (cores := usable_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)


def usable_cores(cpus: Path = CPUS, membership: Path = MEMBERSHIP, groups: Path = CGROUPS) -> int:
    """Physical cores on which this process may run, within the time that its control groups grant it; at least 1."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(cpus, cpu) for cpu in mine}
    belonging = control_groups("cpu", membership, groups)
    granted = [share for folder, version in belonging for share in _share(folder, version)]
    return max(1, int(min((len(cores), *granted))))


def _core(cpus: Path, cpu: int) -> str:
    """What names the core of a logical processor: the list of the processors on it."""
    with suppress(OSError):
        return (cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    return str(cpu)


def _share(folder: Path, version: int) -> Iterator[float]:
    """Processors whose whole time the group may use; nothing where it is not limited."""
    with suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no number
        if version == 2:
            quota, period = map(int, (folder / "cpu.max").read_text().split())
        else:
            quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0:
            yield quota / period
