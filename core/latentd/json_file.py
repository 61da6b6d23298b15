"""Reading the server's own JSON files, so that even a broken one does not prevent its start."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from latentd.regular import read_regular
from latentd.types import JsonValue

log = logging.getLogger(__name__)

MAX_BYTES = 256 << 20


def read_object(
    path: Path, *, objection: Callable[[JsonValue], str | None] = lambda value: None
) -> dict[str, JsonValue]:
    """The JSON object in ``path``; empty if there is no such file.

    A file without one (other text, another encoding than UTF-8, endless nesting, integers of thousands of digits) is
    renamed to ``<name>.broken``, so that the next write does not destroy it, and the log says so.

    :param objection: returns what is wrong with a value that was read, or None.
    """
    try:
        if not path.exists():
            return {}
        values = _parsed(path)
        problem = "it holds no object" if not isinstance(values, dict) else objection(values)
        if problem is None:
            return dict(values)
    except OSError as error:
        log.error("%s cannot be read (%s); the defaults are used", path, error)
        return {}
    except (ValueError, RecursionError) as error:
        problem = str(error)
    _put_aside(path, problem)
    return {}


def _parsed(path: Path) -> JsonValue:
    return json.loads(read_regular(path, MAX_BYTES).decode("utf-8-sig"))


def _put_aside(path: Path, problem: str) -> None:
    aside = path.with_name(path.name + ".broken")
    try:
        path.replace(aside)
        log.error("%s cannot be read (%s); it is kept as %s and the defaults are used", path, problem, aside.name)
    except OSError as error:
        log.error("%s cannot be read (%s), nor moved (%s); the defaults are used", path, problem, error)
