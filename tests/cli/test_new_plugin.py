"""The skeleton of a plugin installs as it is, is loaded, and passes its own test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from latentd import __version__
from latentd.cli.new_plugin import compatible_range

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
        assert "latentd_my_thing/py.typed" in wheel.namelist()
        points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "my-thing = latentd_my_thing" in wheel.read(points).decode()
        metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        needed = re.findall(r"^Requires-Dist: (latentd.*)$", wheel.read(metadata).decode(), re.MULTILINE)
        assert Requirement(needed[0]).specifier == SpecifierSet(compatible_range(__version__))


@pytest.mark.parametrize(
    ("version", "span"),
    [("0.1.0", ">=0.1,<0.2"), ("0.1.7", ">=0.1,<0.2"), ("1.9.2", ">=1.9,<1.10"), ("0.2.0rc1", ">=0.2.0rc1,<0.3")],
)
def test_a_plugin_runs_with_the_cores_of_one_minor_version(version: str, span: str) -> None:
    assert compatible_range(version) == span
    assert SpecifierSet(span).contains(version, prereleases=True)


@pytest.mark.parametrize("name", ["Bad", "1st", "a_b", "../up", "a--b", ""])
def test_a_name_that_will_not_do_writes_nothing(latentd: Any, tmp_path: Path, name: str) -> None:
    assert latentd("new-plugin", name).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(latentd: Any, tmp_path: Path) -> None:
    (tmp_path / "latentd-x").mkdir()
    assert latentd("new-plugin", "x").returncode == 2
    assert list((tmp_path / "latentd-x").iterdir()) == []
