"""Styles files: CSV with the columns name, prompt and negative_prompt."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from latentd.prompts.styles import Style
from latentd.regular import read_regular

MAX_BYTES = 64 << 20

_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=[,;\t|]"?[ \t,;|]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LOOK = 64


class StylesError(ValueError):
    """A styles file cannot be read; the message says why."""


def parse_styles(text: str, path: str | None = None) -> list[Style]:
    """The styles of one file's ``text``, in order.

    Columns are separated by commas, or by the semicolons, tabs or bars that spreadsheets write; a first line such as
    ``sep=;`` names the separator, otherwise the header shows it. Headers may be in any case, and the older columns
    ``name,text`` are read too. Spaces after separators, a byte-order mark, rows without a name and rows whose name
    starts with ``#`` are skipped.

    :raises StylesError: the first line is not the header of a styles file, or the text is not CSV.
    """
    csv.field_size_limit(MAX_BYTES)
    body = text.removeprefix("\ufeff")
    if not body.strip():
        return []
    if match := _SEPARATOR_LINE.match(body):
        body = body[match.end() :]
    body = body.lstrip("\r\n")
    try:
        rows = csv.DictReader(
            io.StringIO(body, newline=""), _columns(body), skipinitialspace=True, delimiter=_delimiter(body)
        )
        next(rows)
        return [style for row in rows if (style := _style(row, path)) is not None]
    except csv.Error as error:
        raise StylesError(f"it is not CSV: {error}") from error


def _delimiter(body: str) -> str:
    """The character that separates the columns of the header."""
    found = next((mark for mark in _DELIMITERS if "name" in _header(body, mark)), None)
    if found is None:
        raise StylesError("its first line has no column 'name'; a styles file begins with name,prompt,negative_prompt")
    return found


def _columns(body: str) -> list[str]:
    return _header(body, _delimiter(body))


def _header(body: str, delimiter: str) -> list[str]:
    first = next(csv.reader(io.StringIO(body, newline=""), skipinitialspace=True, delimiter=delimiter), [])
    return [name.strip().lower().replace(" ", "_").replace("-", "_") for name in first]


def _style(row: Mapping[str, str | None], path: str | None) -> Style | None:
    name = row.get("name") or ""
    if not name or name.startswith("#"):
        return None
    prompt = row["prompt"] if "prompt" in row else row.get("text")
    return Style(name=name, prompt=prompt or "", negative_prompt=row.get("negative_prompt") or "", path=path)


def style_files(patterns: Sequence[str | Path]) -> list[Path]:
    """The files that ``patterns`` name, each once; ``*`` and ``?`` in a file name are wildcards, their files sorted."""
    found: dict[Path, None] = {}
    for pattern in map(Path, patterns):
        wild = any(character in pattern.name for character in "*?")
        found |= dict.fromkeys(sorted(pattern.parent.glob(pattern.name)) if wild else [pattern])
    return list(found)


def read_styles(path: Path) -> list[Style]:
    """The styles of the file ``path``, in order; none if there is no such file.

    Files are read as UTF-8, as UTF-16 of either byte order, or else as Windows-1252, as spreadsheets save them.

    :raises StylesError: it cannot be read, is too large, or holds no styles.
    """
    try:
        if not path.exists():
            return []
        data = read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise StylesError(str(error)) from error
    return parse_styles(_decoded(data), str(path))


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif b"\0" in data[:_LOOK]:
        encodings = ["utf-16-be" if data.startswith(b"\0") else "utf-16-le"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise StylesError("it is neither UTF-8 nor UTF-16 nor Windows-1252")


def load_styles(patterns: Sequence[str | Path], read: Callable[[Path], list[Style]] = read_styles) -> dict[str, Style]:
    """Styles by name from the files that ``patterns`` name; of styles with equal names the last counts.

    With several files, the styles of each follow a divider: the file's name in capitals, centred in 40 dashes.

    :param read: returns the styles of one file.
    :raises StylesError: as ``read`` does.
    """
    paths = style_files(patterns)
    styles: dict[str, Style] = {}
    for path in paths:
        if len(paths) > 1:
            divider = f" {path.stem.upper()} ".center(40, "-")
            styles[divider] = Style(name=divider, prompt=None, negative_prompt=None)
        styles |= {style.name: style for style in read(path)}
    return styles
