"""The skeleton of a plugin installs as it is, is loaded, and passes its own test."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

CORE = Path(__file__).parents[2] / "core"


def test_the_skeleton_passes_its_own_test(latentd: Any, tmp_path: Path) -> None:
    assert latentd("new-plugin", "my-thing").returncode == 0
    folder = tmp_path / "latentd-my-thing"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CORE), str(folder)])},
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_skeleton_builds_a_wheel_with_an_entry_point(latentd: Any, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    latentd("new-plugin", "latentd-my-thing")
    folder = tmp_path / "latentd-my-thing"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path, folder],
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "my-thing = latentd_my_thing" in wheel.read(points).decode()
        metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        assert "Requires-Dist: latentd<0.2,>=0.1" in wheel.read(metadata).decode()


@pytest.mark.parametrize("name", ["Bad", "1st", "a_b", "../up", "a--b", ""])
def test_a_name_that_will_not_do_writes_nothing(latentd: Any, tmp_path: Path, name: str) -> None:
    assert latentd("new-plugin", name).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(latentd: Any, tmp_path: Path) -> None:
    (tmp_path / "latentd-x").mkdir()
    assert latentd("new-plugin", "x").returncode == 2
    assert list((tmp_path / "latentd-x").iterdir()) == []
