"""``latentd new-key NAME``: makes a key, which is shown once, and its line for a keys file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from latentd.cli.settings import UNUSABLE


def run(arguments: Sequence[str]) -> int:
    """Make a key; returns 2 if its name or scopes are invalid."""
    from latentd.server.keys import Scope, new_key, read_scopes

    parser = argparse.ArgumentParser(
        "latentd new-key",
        description="Make a key for --api-keys-file. The key itself is printed once and kept nowhere.",
    )
    parser.add_argument("name", help="whose key it is; stands in the log")
    parser.add_argument(
        "--scopes",
        default=Scope.GENERATE.value,
        help="read, generate (which includes reading) or admin (everything), separated by commas (default: generate)",
    )
    parser.add_argument("--file", type=Path, help="keys file to append to (default: print the line)")
    given = parser.parse_args(list(arguments))
    try:
        key, line = new_key(given.name, read_scopes(given.scopes))
    except ValueError as error:
        print(f"latentd new-key: {error}", file=sys.stderr)
        return UNUSABLE
    if given.file is None:
        print(f"the line for the keys file: {line}")
    else:
        _append(given.file, line)
        print(f"{given.file} has the line of {given.name}")
    print(f"the key, shown this once: {key}")
    return 0


def _append(path: Path, line: str) -> None:
    """Add a line; a file that does not exist yet is created readable by its owner only."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        text = file.read()
        file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
