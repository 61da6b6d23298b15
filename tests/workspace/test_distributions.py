"""The distributions as they would be published: versions, licences, types, and every file of the packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from latentd import __version__
from latentd.cli.new_plugin import compatible_range

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


def package_of(folder: Path) -> Path:
    """The folder of the distribution's package."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return folder / package


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, zipfile.ZipFile]:
    """The wheel of every distribution, built as ``pip install`` builds it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, *map(str, FOLDERS)], check=True)
    built = {path.name.split("-")[0]: zipfile.ZipFile(path) for path in folder.glob("*.whl")}
    return {source: built[package_of(source).name] for source in FOLDERS}


@pytest.fixture(params=FOLDERS, ids=lambda folder: package_of(folder).name)
def folder(request: pytest.FixtureRequest) -> Path:
    """The folder of one distribution."""
    found: Path = request.param
    return found


@pytest.fixture
def wheel(wheels: dict[Path, zipfile.ZipFile], folder: Path) -> zipfile.ZipFile:
    return wheels[folder]


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_a_wheel_has_its_licences(wheel: zipfile.ZipFile, folder: Path) -> None:
    facts = metadata(wheel)
    licences = facts.get_all("License-File") or []
    assert "LICENSE" in licences
    (info,) = {name.split("/")[0] for name in wheel.namelist() if name.endswith(".dist-info/METADATA")}
    for licence in licences:
        assert wheel.read(f"{info}/licenses/{licence}") == (folder / licence).read_bytes()
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "Apache-2.0" in facts["License-Expression"]
    assert len(licences) == len(facts["License-Expression"].split(" AND ")), "a licence for each that is named"


def test_a_wheel_has_every_file_of_its_package_and_no_other(wheel: zipfile.ZipFile, folder: Path) -> None:
    package = package_of(folder)
    theirs = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{package.name}/py.typed" in theirs
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == theirs


def test_a_wheel_has_the_version_of_the_core_and_a_plugin_wants_cores_of_it(
    wheel: zipfile.ZipFile, folder: Path
) -> None:
    facts = metadata(wheel)
    assert facts["Version"] == __version__
    wanted = {r.name: r.specifier for r in map(Requirement, facts.get_all("Requires-Dist") or [])}
    if folder != ROOT:
        assert wanted["latentd"] == SpecifierSet(compatible_range(__version__))


def test_a_wheel_tells_what_it_is(wheel: zipfile.ZipFile) -> None:
    facts = metadata(wheel)
    assert facts["Requires-Python"] == ">=3.11"
    assert facts["Description-Content-Type"] == "text/markdown"
    assert len(facts.get_payload()) > 200


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """tools/versions.py over a copy of the files that it reads."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = import_module("versions")
    for file in [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("docs/tutorial/*.md"), ROOT / module.SOURCE]:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_one_command_sets_the_version_everywhere(versions: Any, tmp_path: Path, capsys: Any) -> None:
    assert versions.main([]) == 0
    (tmp_path / versions.SOURCE).write_text('__version__ = "7.8.9"\n')
    assert versions.main([]) == 1
    assert "plugins/scripts/pyproject.toml" in capsys.readouterr().out.replace("\\", "/")
    assert versions.main(["7.9.0rc1"]) == 0
    assert versions.main([]) == 0
    for file in tmp_path.rglob("pyproject.toml"):
        text = file.read_text()
        assert 'version = "7.9.0rc1"' in text
        assert '"latentd>=7.9.0rc1,<7.10"' in text
    assert versions.main(["soon"]) == 2


def test_no_other_file_of_the_packages_names_the_version() -> None:
    for folder in FOLDERS:
        for file in package_of(folder).rglob("*.py"):
            found = re.findall(r'^__version__ = "', file.read_text(encoding="utf-8"), re.MULTILINE)
            assert not found or file == ROOT / "core/latentd/__init__.py"


def test_every_plugin_is_known_to_the_tools() -> None:
    names = {package_of(folder).name for folder in FOLDERS[1:]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    assert {requirement.replace("-", "_") for extra in extras.values() for requirement in extra} == names
    sources = {str(package_of(folder).parent.relative_to(ROOT)) for folder in FOLDERS}
    assert sources <= set(project["tool"]["mypy"]["mypy_path"])
    linter = project["tool"]["importlinter"]
    assert set(linter["root_packages"]) == {"latentd", *names}
    contracts = {contract["name"]: contract for contract in linter["contracts"]}
    assert set(contracts["Plugins import the public face alone"]["source_modules"]) == names
    circles = contracts["No circles among a plugin's modules"]["ancestors"]
    assert {ancestor.removesuffix(".**") for ancestor in circles} == names
