"""Writes the tables of docs/compatibility.md that the tests know: endpoints, and the recorded cases answered otherwise.

``python tools/compatibility.py`` writes them; ``--check`` ends with 1 when they are out of date. What an endpoint's row
says is checked by its contract in tests/compat; the reasons are those that tests/parity counts on.
"""

from __future__ import annotations

import collections
import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
CASES = ROOT / "tests" / "reference"


def main(arguments: list[str]) -> int:
    """0 when the tables are written, or with ``--check`` are as they would be."""
    old = PAGE.read_text(encoding="utf-8")
    new = old
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: written by tools/compatibility.py -->\n", f"<!-- end of {name} -->"
        before, found, rest = new.partition(begin)
        assert found, f"{PAGE.name} has no place for the table {name}"
        new = before + begin + make() + end + rest.partition(end)[2]
    if new == old:
        return 0
    if "--check" in arguments:
        print(f"{PAGE.name} is out of date; run python tools/compatibility.py")
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


def endpoints() -> str:
    """A row an endpoint: its verdict, how many recorded answers the suite replays, what differs."""
    from tests.compat import ALL

    recorded = replayed()
    rows = [
        f"| `{entry.endpoint}` | {entry.verdict} | {recorded.get(entry.endpoint, '')} | {entry.why} |"
        for entry in ALL.values()
    ]
    return "\n".join(["| endpoint | | recorded | |", "|---|---|---|---|", *rows]) + "\n"


def replayed() -> dict[str, int]:
    """How many recorded answers of each endpoint the suite compares with."""
    found: collections.Counter[str] = collections.Counter()
    for row in json.loads((CASES / "index.json").read_text(encoding="utf-8")):
        request = json.loads((CASES / "cases" / row["group"] / row["name"] / "request.json").read_text("utf-8"))
        found[f"{request['method']} {request['path']}"] += 1
    return found


def cases() -> str:
    """A row a recorded case that is answered otherwise on purpose."""
    from tests.parity.explained import EXPLAINED, EXPLAINED_TEXT

    rows = [f"| `{name}` | {why} |" for name, why in sorted((EXPLAINED | EXPLAINED_TEXT).items())]
    return "\n".join(["| case | why |", "|---|---|", *rows]) + "\n"


TABLES: dict[str, Callable[[], str]] = {"endpoints": endpoints, "cases": cases}

if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "core")]
    sys.exit(main(sys.argv[1:]))
