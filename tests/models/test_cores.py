"""Threads of torch: the physical cores of this process, within what its control groups grant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.models import cores
from latentd.models.cores import usable_cores


@pytest.fixture
def processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight logical processors on four cores; this process may run on six of them, which are on three."""
    for cpu in range(8):
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: {0, 1, 2, 4, 5, 6}, raising=False)
    return tmp_path / "cpu"


def test_two_processors_on_one_core_are_one(processors: Path, tmp_path: Path) -> None:
    assert usable_cores(processors, tmp_path / "none", tmp_path) == 3
    assert usable_cores(tmp_path / "nothing known", tmp_path / "none", tmp_path) == 6


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 1),
        ("0::/of/the/host", {"cpu.max": "250000 100000"}, 2),
        ("0::/a", {"a/cpu.max": "max 100000"}, 3),
        ("0::/a", {"a/cpu.max": "nonsense"}, 3),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "150000", "cpu/a/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        ("4:memory:/a", {"memory/a/cpu.cfs_quota_us": "100000", "memory/a/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_a_share_of_processor_time_bounds_them(
    processors: Path, tmp_path: Path, line: str, files: dict[str, str], expected: int
) -> None:
    membership, groups = tmp_path / "cgroup", tmp_path / "groups"
    membership.write_text(line + "\n")
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    if "cpu,cpuacct" in line:  # the folder of version 1 is called after one of its controllers
        assert (groups / "cpu").is_dir()
    assert usable_cores(processors, membership, groups) == expected


def test_the_user_s_number_stays() -> None:
    script = """
import torch
from latentd.models import cores
cores.usable_cores = lambda: 1
before = torch.get_num_threads()
cores.use_own_cores()
print(before, torch.get_num_threads())
"""
    for name in ("OMP_NUM_THREADS", "NOTHING"):
        environment = {name: "2", "PYTHONPATH": os.pathsep.join(sys.path)}
        before, after = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True).split()
        assert after == (before if name == "OMP_NUM_THREADS" else "1")
