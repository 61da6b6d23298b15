"""One version for all distributions: ``core/latentd/__init__.py`` has it, and this writes it wherever else it stands.

``python tools/versions.py`` names the files that say something else and ends with 1; ``python tools/versions.py 0.2.0``
gives all of them that version: the core, the plugins, and the range of cores that they are made for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "core/latentd/__init__.py"
_SOURCE_LINE = re.compile(r'(?<=^__version__ = ")[^"]+', re.MULTILINE)
_VERSION_LINE = re.compile(r'(?<=^version = ")[^"]+', re.MULTILINE)
_RANGE = re.compile(r'(?<="latentd)>=[^"]+')


def main(arguments: list[str]) -> int:
    """0 when every file says the same, or was made to."""
    from packaging.version import InvalidVersion, Version

    path = ROOT / SOURCE
    text = path.read_text(encoding="utf-8")
    if arguments:
        try:
            version = str(Version(arguments[0]))
        except InvalidVersion:
            print(f"{arguments[0]!r} is no version (PEP 440), as 0.2.0 or 0.2.0rc1", file=sys.stderr)
            return 2
        path.write_text(_SOURCE_LINE.sub(version, text), encoding="utf-8")
    else:
        version = _SOURCE_LINE.findall(text)[0]
    stale = []
    for file, wanted in files(version):
        if file.read_text(encoding="utf-8") == wanted:
            continue
        stale.append(str(file.relative_to(ROOT)))
        if arguments:
            file.write_text(wanted, encoding="utf-8")
    if stale and not arguments:
        print(f"not of version {version}: {', '.join(stale)}; run python tools/versions.py {version}")
        return 1
    print(version)
    return 0


def files(version: str) -> Iterator[tuple[Path, str]]:
    """Every file beside :data:`SOURCE` that names the version, with its text for ``version``."""
    from latentd.cli.new_plugin import compatible_range

    span = compatible_range(version)
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        yield file, _RANGE.sub(span, _VERSION_LINE.sub(version, file.read_text(encoding="utf-8")))
    # The version in a tutorial is that of the reader's own plugin.
    for file in sorted(ROOT.glob("docs/tutorial/*.md")):
        yield file, _RANGE.sub(span, file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "core"))
    sys.exit(main(sys.argv[1:]))
