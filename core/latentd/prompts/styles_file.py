"""Styles files: CSV with the columns name, prompt and negative_prompt."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from latentd.atomic import write_atomically
from latentd.prompts.styles import Style

_COLUMNS = ("name", "prompt", "negative_prompt")


def parse_styles(text: str, path: str | None = None) -> list[Style]:
    """The styles of one file's ``text``, in order.

    The older columns ``name,text`` are read too, spaces after commas and a byte-order mark are skipped, and so are rows
    without a name or whose name starts with ``#``.
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    styles: list[Style] = []
    for row in rows:
        name = row.get("name") or ""
        if not name or name.startswith("#"):
            continue
        prompt = row["prompt"] if "prompt" in row else row.get("text")
        styles.append(
            Style(name=name, prompt=prompt or "", negative_prompt=row.get("negative_prompt") or "", path=path)
        )
    return styles


def format_styles(styles: Iterable[Style]) -> str:
    """The text of a styles file that holds ``styles``, dividers left out; a byte-order mark comes first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows((style.name, style.prompt, style.negative_prompt) for style in styles if not style.is_divider)
    return "\ufeff" + text.getvalue()


def style_files(patterns: Sequence[str | Path]) -> list[Path]:
    """The files that ``patterns`` name, without repeats; ``*`` and ``?`` in a file name are wildcards (sorted)."""
    found: dict[Path, None] = {}
    for pattern in map(Path, patterns):
        wild = any(character in pattern.name for character in "*?")
        found |= dict.fromkeys(sorted(pattern.parent.glob(pattern.name)) if wild else [pattern])
    return list(found)


def load_styles(patterns: Sequence[str | Path]) -> dict[str, Style]:
    """Styles by name from the files that ``patterns`` name; of equal names the last counts.

    With several files each is announced by a divider, its name in capitals centred in 40 dashes. Files that do not
    exist are empty.

    :raises OSError: a file exists and cannot be read. :raises UnicodeDecodeError: it is not UTF-8.
    :raises csv.Error: it is not CSV.
    """
    paths = style_files(patterns)
    styles: dict[str, Style] = {}
    for path in paths:
        if len(paths) > 1:
            divider = f" {path.stem.upper()} ".center(40, "-")
            styles[divider] = Style(name=divider, prompt=None, negative_prompt=None)
        if path.is_file():
            text = path.read_bytes().decode("utf-8-sig")
            styles |= {style.name: style for style in parse_styles(text, str(path))}
    return styles


def save_styles(styles: Iterable[Style], path: str | Path) -> None:
    """Write ``styles`` to the file ``path`` in one step; the file that was there is kept as ``path`` + ``.bak``.

    :raises OSError: the folder cannot be written.
    """
    path = Path(path)
    if path.exists():
        shutil.copy(path, f"{path}.bak")
    write_atomically(path, format_styles(styles).encode())
