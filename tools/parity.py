"""Replays recorded answers of AUTOMATIC1111 against a latentd of this tree and prints how far they agree.

usage: python tools/parity.py [--reference DIR] [compare.py's flags, such as --only samplers]

Without --reference: a folder ``shared/reference`` beside the repository where there is one, else the part of it in
``tests/reference``; ``tests/reference_sdxl`` is the part with SDXL and SD 2. Exit status 1 when a case fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.parity.explained import EXPLAINED  # noqa: E402 - a tool of the repository, run from anywhere
from tests.reference_server import ReferenceServer, start_reference_server  # noqa: E402

WHOLE, PART = ROOT.parent / "shared" / "reference", ROOT / "tests" / "reference"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=WHOLE if WHOLE.is_dir() else PART)
    arguments, rest = parser.parse_known_args()
    reference: Path = arguments.reference.resolve()
    assemblers = [assembler(reference)]
    if assemblers[0].name != "assemble.py":  # SDXL's and SD 2's models lie beside those of the other collection
        assemblers.insert(0, PART / "assemble.py")
    compare: Any = load(PART / "compare.py")
    compare.EXPLAINED.update(EXPLAINED)
    with tempfile.TemporaryDirectory(prefix="latentd-parity-") as data:
        for script in assemblers:
            made_from = ["--reference", str(PART)] if script.name == "make_models.py" else []
            subprocess.run([sys.executable, str(script), data, *made_from], check=True)
        with start_reference_server(Path(data)) as server:
            compare.Replay = resetting(compare.Replay, server)
            sys.argv = ["compare.py", server.url, "--cases", str(reference), *rest]
            status = compare.main()
    return int(status)


def assembler(reference: Path) -> Path:
    """The script of a collection that writes its models into a data folder.

    :raises FileNotFoundError: it has none.
    """
    found = [path for name in ("assemble.py", "make_models.py") if (path := reference / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{reference} has neither assemble.py nor make_models.py")
    return found[0]


def resetting(replay: type[Any], server: ReferenceServer) -> type[Any]:
    """``compare.Replay`` that puts the options back before each group, as the recordings were made."""

    class Resetting(replay):  # type: ignore[misc]
        group = ""

        def __call__(self, row: dict[str, Any]) -> Any:
            if row["group"] != self.group:
                self.group = row["group"]
                server.reset()
            return super().__call__(row)

    return Resetting


def load(path: Path) -> ModuleType:
    """The recordings' own comparing tool."""
    spec = importlib.util.spec_from_file_location("compare", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
