"""Files of JSON that the server keeps: read so that none, however broken, keeps it from starting."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentd.regular import read_regular

log = logging.getLogger(__name__)

MAX_BYTES = 256 << 20


def read_object(path: Path, *, objection: Callable[[Any], str | None] = lambda value: None) -> dict[str, Any]:
    """The JSON object in ``path``; empty when there is no such file.

    A file that does not hold one (other text, another encoding than UTF-8, nesting without end, integers of thousands
    of digits) is put aside as ``<name>.broken``, so that the next write does not destroy it, and said in the log.

    :param objection: what is wrong with the value that was read, or None.
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


def _parsed(path: Path) -> Any:
    return json.loads(read_regular(path, MAX_BYTES).decode("utf-8-sig"))


def _put_aside(path: Path, problem: str) -> None:
    aside = path.with_name(path.name + ".broken")
    try:
        path.replace(aside)
        log.error("%s cannot be read (%s); it is kept as %s and the defaults are used", path, problem, aside.name)
    except OSError as error:
        log.error("%s cannot be read (%s), nor moved (%s); the defaults are used", path, problem, error)
