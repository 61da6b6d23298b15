"""Real wheels, built here and installed with pip into a folder that is laid over the running environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from latentd import __version__
from latentd.cli.new_plugin import compatible_range

CORE = Path(__file__).parents[2] / "core"
DEFAULT_REQUIREMENT = f"latentd{compatible_range(__version__)}"


def build_wheel(
    folder: Path,
    name: str,
    source: str,
    *,
    requires: str = DEFAULT_REQUIREMENT,
    entry: str | None = None,
    group: str = "latentd",
) -> Path:
    """A wheel of distribution ``latentd-<name>`` with one module ``latentd_<name>`` and one entry point."""
    module, version = f"latentd_{name}", "1.0"
    info = f"latentd_{name}-{version}.dist-info"
    files = {
        f"{module}.py": textwrap.dedent(source),
        f"{info}/METADATA": "Metadata-Version: 2.1\n"
        f"Name: latentd-{name}\nVersion: {version}\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{group}]\n{entry or name} = {module}\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = folder / f"latentd_{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, content)
    return wheel


class Overlay:
    """A folder of installed wheels; :meth:`python` runs code that sees them and the running environment.

    Plugins that were added are installed together when that is first used: each start of pip takes a second or two.
    """

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self._site = folder / "site"
        self.wheels.mkdir()
        self._site.mkdir()
        self._added: list[Path] = []

    def add(self, name: str, source: str, **facts: Any) -> None:
        """Build a plugin's wheel, to be installed."""
        self._added.append(build_wheel(self.wheels, name, source, **facts))

    @property
    def site(self) -> Path:
        """The folder of what is installed; plugins that were added are installed first."""
        if self._added:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
            environment = {**os.environ, "PIP_NO_INPUT": "1"}
            subprocess.run([*command, self._site, *self._added], check=True, capture_output=True, env=environment)
            self._added.clear()
        return self._site

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python over the overlay."""
        path = os.pathsep.join([str(self.site), str(CORE)])
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )

    def report(self, *flags: str, **environment: str) -> dict[str, Mapping[str, Any]]:
        """Rows of ``latentd plugins --json`` by name, the core's own left out."""
        done = self.python("-m", "latentd", "plugins", "--json", *flags, **environment)
        assert done.stdout, done.stderr
        return {row["name"]: row for row in json.loads(done.stdout) if not row["builtin"]}


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Overlay:
    """An overlay that one test module shares."""
    return Overlay(tmp_path_factory.mktemp("overlay"))
