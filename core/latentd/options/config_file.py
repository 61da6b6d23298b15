"""Reading and writing config.json: AUTOMATIC1111's format, written atomically."""

from __future__ import annotations

import json
from pathlib import Path

from latentd.atomic import write_atomically
from latentd.json_file import MAX_BYTES, read_object
from latentd.options.storable import why_not_storable
from latentd.types import JsonValue, OptionValues


def read_config(path: Path) -> dict[str, JsonValue]:
    """The values in ``path``; empty if there is no such file, or if it is renamed as damaged (:func:`read_object`)."""
    return read_object(path, objection=_objection)


def write_config(path: Path, values: OptionValues) -> None:
    """Replace the contents of ``path`` by ``values``; a reader sees the whole old or the whole new file.

    :raises OSError: the folder cannot be written.
    """
    write_atomically(path, json.dumps(values, indent=4, ensure_ascii=False).encode(), sync=True)


def _objection(values: JsonValue) -> str | None:
    """Why the file's values could not be written back, or None; extensions may keep large values in it."""
    return why_not_storable(values, max_text=MAX_BYTES, max_entries=MAX_BYTES)
