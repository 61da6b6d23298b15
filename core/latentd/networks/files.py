"""Network files on disk and their names. No torch is imported here: contents are read in another module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentd.errors import ModelLoadError
from latentd.models.files.folders import find_models
from latentd.models.files.safetensors_header import METADATA, read_header
from latentd.models.files.spelling import Spellings
from latentd.regular import open_regular
from latentd.types import JsonValue

ENDINGS = (".safetensors", ".pt", ".ckpt", ".bin")

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOnDisk:
    """A network file. ``name`` is its stem, ``alias`` the name in its metadata, or the stem if there is none."""

    name: str
    alias: str
    path: Path
    metadata: Mapping[str, JsonValue]
    stamp: tuple[int, int]

    def digest(self) -> str:
        """The hash whose beginning stands in infotexts: from the metadata, else :func:`network_digest`."""
        given = self.metadata.get("sshs_model_hash")
        return given if isinstance(given, str) and given else network_digest(self.path)


def read_metadata(path: Path) -> dict[str, JsonValue]:
    """The metadata of a safetensors file, with JSON objects parsed; empty for other kinds of files and damaged ones."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        entries = read_header(path).get(METADATA)
    except ModelLoadError:
        return {}
    return {key: _parsed(value) for key, value in entries.items()} if isinstance(entries, dict) else {}


def _parsed(value: object) -> object:
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def network_digest(path: Path) -> str:
    """SHA-256 in hexadecimal: of a safetensors file without its header, of any other file as a whole.

    A safetensors file whose metadata are edited therefore keeps its hash. A file that only has such a name is hashed as
    a whole.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        is_headed = path.suffix.lower() == ".safetensors" and start <= path.stat().st_size
        file.seek(start if is_headed else 0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class NetworkLibrary:
    """The network files of some folders, found by the names that prompts use.

    :param folders: searched with their subfolders; missing ones are skipped.
    :param carried: files that are part of packages; a file of the same name in a folder takes precedence.
    :param hidden: whether folders whose name begins with a dot are searched.
    """

    def __init__(
        self, folders: Sequence[Path], *, carried: Sequence[Path] = (), hidden: Callable[[], bool] = lambda: True
    ) -> None:
        self._folders = tuple(folders)
        self._carried = tuple(carried)
        self._hidden = hidden
        self._digests: dict[tuple[Path, tuple[int, int]], str] = {}
        self._by_name: dict[str, NetworkOnDisk] = {}
        self._by_alias: dict[str, NetworkOnDisk] = {}
        self._ambiguous: set[str] = set()
        self._spellings: Spellings[NetworkOnDisk] = Spellings(())
        self.refresh()

    def refresh(self) -> None:
        """Scan the folders again; unchanged files are not read again."""
        known = {(net.path, net.stamp): net for net in self._by_name.values()}
        by_name: dict[str, NetworkOnDisk] = {}
        by_alias: dict[str, NetworkOnDisk] = {}
        ambiguous = {"none"}
        for path in (*self._carried, *_candidates(self._folders, hidden=self._hidden())):
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            net = known.get((path, stamp)) or _describe(path, stamp)
            if net.alias in by_alias:
                ambiguous.add(net.alias.lower())
            by_name[net.name] = by_alias[net.name] = by_alias[net.alias] = net
        self._by_name, self._by_alias, self._ambiguous = by_name, by_alias, ambiguous
        self._spellings = Spellings((text, net) for net in by_name.values() for text in (net.name, net.alias))

    def list(self) -> list[NetworkOnDisk]:
        """All files, sorted by name without regard to case."""
        return sorted(self._by_name.values(), key=lambda net: net.name.lower())

    def find(self, name: str) -> NetworkOnDisk | None:
        """The file that a tag names by its alias or stem; by stem only if an alias is shared or is ``none``.

        If none fits exactly, it is the only one that fits in another case, with its ending or with a folder before it.
        """
        if name.lower() in self._ambiguous:
            return self._by_name.get(name)
        return self._by_alias.get(name) or self._spellings.find(name, suffixes=ENDINGS)

    def short_hash(self, net: NetworkOnDisk) -> str:
        """The first 12 digits of the file's digest, computed once for each file."""
        key = (net.path, net.stamp)
        if key not in self._digests:
            self._digests[key] = net.digest()
        return self._digests[key][:12]


def _candidates(folders: Iterable[Path], *, hidden: bool) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        inside = [file.path for file in find_models(folder, ENDINGS, hidden=hidden)]
        found.update(dict.fromkeys(sorted(inside, key=lambda p: str(p).lower())))
    return list(found)


def _describe(path: Path, stamp: tuple[int, int]) -> NetworkOnDisk:
    metadata = read_metadata(path)
    alias = metadata.get("ss_output_name")
    return NetworkOnDisk(
        name=path.stem, alias=alias if isinstance(alias, str) and alias else path.stem,
        path=path, metadata=metadata, stamp=stamp,
    )  # fmt: skip
