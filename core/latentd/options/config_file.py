"""Reading and writing config.json: AUTOMATIC1111's format, written atomically."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentd.atomic import write_atomically

logger = logging.getLogger(__name__)


def read_config(path: Path) -> dict[str, Any]:
    """The values in ``path``; empty when there is no such file.

    A file that does not hold a JSON object is put aside as ``<name>.broken``, so that the next write does not
    destroy it.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        values = json.loads(content)
        if isinstance(values, dict):
            return values
        problem = "it holds no object"
    except json.JSONDecodeError as error:
        problem = str(error)
    aside = path.with_name(path.name + ".broken")
    logger.error("%s cannot be read (%s); it is kept as %s and the defaults are used", path, problem, aside.name)
    path.replace(aside)
    return {}


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``values``: a reader sees the old file or the new one, never a part.

    :raises OSError: the folder cannot be written.
    """
    write_atomically(path, json.dumps(values, indent=4, ensure_ascii=False).encode(), sync=True)
