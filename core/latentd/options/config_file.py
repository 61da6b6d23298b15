"""Reading and writing config.json: AUTOMATIC1111's format, written atomically."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=4, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
