"""Category files: lists of artists, mediums, movements, flavours, or anything else by which CLIP describes pictures."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from latentd.api import read_regular

log = logging.getLogger(__name__)

_MAX_BYTES = 64 << 20
_TOP = re.compile(r"\.top(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A list of entries, of which the best ``top`` are used."""

    name: str
    top: int
    entries: tuple[str, ...]


def read_categories(folder: Path, *, skip: Collection[str] = (), limit: int = 0) -> list[Category]:
    """The categories in ``folder``, sorted by name; none if there is no folder. Empty lines and files are left out.

    :param skip: names of files to leave out, without ``.txt`` and with or without ``.topN``.
    :param limit: most entries of one category, 0 for all.
    """
    found = []
    for path in sorted(folder.glob("*.txt")):
        match = _TOP.search(path.stem)
        if path.stem in skip or _TOP.sub("", path.stem) in skip:
            continue
        try:
            lines = read_regular(path, _MAX_BYTES).decode("utf-8", errors="replace").splitlines()
        except (OSError, ValueError) as error:
            log.warning("category file %s is left out: %s", path.name, error)
            continue
        entries = tuple(line.strip() for line in lines if line.strip())[: limit if limit > 0 else None]
        top = int(match.group(1)) if match else 1
        if entries and top:
            found.append(Category(name=path.stem, top=min(top, len(entries)), entries=entries))
    return found
