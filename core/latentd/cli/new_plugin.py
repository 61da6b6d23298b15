"""``latentd new-plugin NAME``: the skeleton of a plugin, with a test."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from packaging.version import Version

from latentd import __version__
from latentd.settings.parse import CommandParser

TEMPLATES = "plugin_template"
VALID_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def run(arguments: Sequence[str]) -> int:
    """Write the skeleton; returns 2 if the name is unusable or the folder exists."""
    parser = CommandParser(
        "latentd new-plugin", description="Write the skeleton of a plugin, with a test, into a new folder latentd-NAME."
    )
    parser.add_argument("name", help="name of the plugin: lower-case letters, digits and hyphens")
    parser.add_argument(
        "--into", type=Path, default=Path(), help="folder in which latentd-NAME is made (default: here)"
    )
    given, rest = parser.parse_known_args(list(arguments))
    parser.refuse_unknown(rest)
    name = given.name.removeprefix("latentd-")
    folder = given.into / f"latentd-{name}"
    if not VALID_NAME.fullmatch(name):
        print(
            f"latentd: {name!r} will not do: lower-case letters, digits and hyphens, as in my-plugin", file=sys.stderr
        )
        return 2
    if folder.exists():
        print(f"latentd: {folder} exists already", file=sys.stderr)
        return 2
    written = write_skeleton(folder, name)
    print(f"written: {', '.join(str(path) for path in written)}")
    print(f"next: cd {folder} && pip install -e '.[test]' && pytest")
    return 0


def compatible_range(version: str) -> str:
    """The requirement of a plugin made for core ``version``: the cores of the same minor version.

    ``0.1.0`` becomes ``>=0.1,<0.2``; for a pre-release (``0.2.0rc1``) the range begins with that itself.
    """
    parsed = Version(version)
    least = version if parsed.is_prerelease else f"{parsed.major}.{parsed.minor}"
    return f">={least},<{parsed.major}.{parsed.minor + 1}"


def write_skeleton(folder: Path, name: str) -> list[Path]:
    """Write the files of plugin ``name`` into ``folder``; returns their paths."""
    values = {
        "name": name,
        "module": "latentd_" + name.replace("-", "_"),
        "identifier": name.replace("-", "_"),
        "range": compatible_range(__version__),
    }
    written = []
    for entry in sorted(files("latentd.cli").joinpath(TEMPLATES).iterdir(), key=lambda entry: entry.name):
        # In the template's file names "+" separates folders, MODULE is the module's name, and ".in" is removed.
        relative = entry.name.removesuffix(".in").replace("+", "/").replace("MODULE", values["module"])
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(entry.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
        written.append(path)
    return written
