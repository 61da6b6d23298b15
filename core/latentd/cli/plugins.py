"""``latentd plugins``: the installed plugins and their states."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from latentd.cli.settings import read_settings
from latentd.settings.parse import CommandParser, flags_parser
from latentd.types import JsonValue


def run(arguments: Sequence[str]) -> int:
    """Print the plugins; returns 1 if one of them failed."""
    parser = CommandParser("latentd plugins", description="List the plugins and what became of them.")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, tracebacks included")
    parser.add_argument("--tracebacks", action="store_true", help="print the traceback of each plugin that failed")
    own, rest = parser.parse_known_args(list(arguments))
    settings = read_settings(rest, flags_parser("latentd plugins", also=parser.spellings))

    logging.disable(logging.ERROR)  # the table shows the same errors
    from latentd.server.services import create_services

    # Some plugins fail only when they get the server's services, so these are created as by the server.
    host = create_services(settings).host
    rows = host.report()
    print(json.dumps(rows, indent=2) if own.json else table(rows, tracebacks=own.tracebacks))
    return 1 if host.problems() else 0


def table(rows: Sequence[dict[str, JsonValue]], *, tracebacks: bool = False) -> str:
    """The plugins as text: a line for each, then its contributions or the reason why it does not run."""
    lines = []
    for row in rows:
        origin = " ".join(filter(None, (row["distribution"], row["version"]))) or "given by the program"
        lines.append(f"{row['name']:<24} {row['state']:<10} {'built in' if row['builtin'] else origin}")
        if row["error"]:
            lines.append(f"    {row['error']}")
        if row["traceback"] and tracebacks:
            lines += [f"    {line}" for line in row["traceback"].splitlines()]
        for kind, names in row["contributes"].items():
            lines.append(f"    {kind.replace('_', ' ')}: {_shortened(names)}")
    return "\n".join(lines)


def _shortened(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
