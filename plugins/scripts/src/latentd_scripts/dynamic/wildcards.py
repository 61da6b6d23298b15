"""The lists that templates name as ``__name__``: files in ``wildcards/``, by their paths, and keys within them.

A name is looked for among the names of what was found in the folders, and never made into a path, so that no template
reaches a file outside of them. Files come from anywhere: they are read up to a size, and those that cannot be read are
left out with a line in the log.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from latentd.api import JsonValue, find_models, read_regular
from latentd_scripts.dynamic.expansion import Entries

log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".yaml", ".yml", ".json")
MOST_BYTES = 4 << 20
"""Most bytes of a file."""
MOST_ENTRIES = 500_000
"""Most entries of all files together."""
_MOST_LISTS = 50_000
_MOST_DEPTH = 16
_WEIGHTED = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)::(.*)", re.DOTALL)

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc, valid-type]  # one of two classes
    """Reads YAML without merge keys (``<<``), by which a few lines become any number of entries."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _File:
    """What was read from a file, and its state then: its lists, by their names within its folder."""

    stamp: tuple[int, int, int]
    lists: dict[str, list[tuple[str, float]]]


class WildcardFiles:
    """The lists of some folders; files are read again when they have changed.

    :param folders: folders in order of precedence; one that does not exist has no lists.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._read: dict[Path, _File] = {}

    def now(self) -> PresentLists:
        """The lists in their present state."""
        lists: dict[str, list[tuple[str, float]]] = {}
        read: dict[Path, _File] = {}
        left = MOST_ENTRIES
        for folder in self._folders:
            for found in find_models(folder, SUFFIXES, hidden=False):
                file = self._file(found.path)
                size = sum(map(len, file.lists.values()))
                if size > left or len(lists) + len(file.lists) > _MOST_LISTS:
                    log.warning("wildcards: %s and what comes after it is left out: too many entries", found.name)
                    break
                left -= size
                read[found.path] = file
                place = found.name.rpartition("/")[0]
                for name, entries in file.lists.items():
                    lists.setdefault(f"{place}/{name}" if place else name, entries)
        self._read = read
        return PresentLists(lists)

    def _file(self, path: Path) -> _File:
        try:
            state = path.stat()
            stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        except OSError:
            return _File((0, 0, 0), {})
        known = self._read.get(path)
        return known if known is not None and known.stamp == stamp else _File(stamp, _lists(path))


class PresentLists:
    """The lists as they were when a request was planned."""

    def __init__(self, lists: dict[str, list[tuple[str, float]]]) -> None:
        self._lists = lists

    def entries(self, name: str) -> Entries:
        """The entries of all lists that ``name`` means, each text once and in order of the texts.

        ``*``, ``?`` and ``[...]`` stand for parts of a name; a name that fits none is looked for in every folder.
        """
        name = re.sub(r"[\\/]+", "/", name).strip("/")
        lists = self._matching(name) or self._matching(f"**/{name}")
        weights: dict[str, float] = {}
        for entries in lists:
            for text, weight in entries:
                weights.setdefault(text, weight)
        texts = sorted(weights)
        values = [weights[text] for text in texts]
        return Entries(texts, values if len(set(values)) > 1 else None)

    def _matching(self, pattern: str) -> list[list[tuple[str, float]]]:
        if not any(mark in pattern for mark in "*?["):
            return [self._lists[pattern]] if pattern in self._lists else []
        return [entries for name, entries in self._lists.items() if fnmatchcase(name, pattern)]


def _lists(path: Path) -> dict[str, list[tuple[str, float]]]:
    """The lists in a file: one of its own name, or those of its keys."""
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig", errors="ignore")
        if path.suffix.lower() == ".txt":
            return {path.stem: [(line, 1.0) for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]}
        value = json.loads(text) if path.suffix.lower() == ".json" else _read_yaml(text)
        return dict(_structured(value, path.stem))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        log.warning("wildcards: %s cannot be read: %s", path, error)
        return {}


def _read_yaml(text: str) -> JsonValue:
    """The document, read only if it is not nested deep: the loader in C calls itself for every level.

    :raises ValueError: it is.
    """
    depth = 0
    for event in yaml.parse(text, _Base):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 2 * _MOST_DEPTH:
            raise ValueError(f"it is nested over {2 * _MOST_DEPTH} deep")
    return yaml.load(text, _Loader)


def _structured(value: JsonValue, stem: str) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """The lists of a YAML or JSON document by their keys, joined by ``/``; one of the file's name if it is a list.

    :raises ValueError: it has more entries than fit, as a document can whose parts are repeated by reference.
    """
    if isinstance(value, list):
        yield stem, [entry for item in value if (entry := _entry(item)) is not None]
        return
    waiting: list[tuple[str, JsonValue]] = [("", value)]
    seen = 0
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, str):
            part = [part]
        if isinstance(part, dict):
            if place.count("/") < _MOST_DEPTH:
                waiting += [(f"{place}/{key}" if place else key, part[key]) for key in part if isinstance(key, str)]
        elif isinstance(part, list) and place:
            yield place, [entry for item in part if (entry := _entry(item)) is not None]
        seen += len(part) if isinstance(part, (list, dict)) else 1
        if seen > MOST_ENTRIES:
            raise ValueError(f"it has over {MOST_ENTRIES} entries")


def _entry(item: JsonValue) -> tuple[str, float] | None:
    """The text and weight of an item, ``3::text`` or ``{"text": ..., "weight": ...}``; None if it is neither."""
    if isinstance(item, dict):
        text, weight = item.get("text") or item.get("content"), item.get("weight", 1)
        if not isinstance(text, str) or isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return None
        return (text, float(weight)) if 0 <= weight <= 1e9 and math.isfinite(weight) else None
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        return str(item), 1.0
    if not isinstance(item, str) or not item:
        return None
    match = _WEIGHTED.match(item)
    return (match[2], float(match[1])) if match else (item, 1.0)
