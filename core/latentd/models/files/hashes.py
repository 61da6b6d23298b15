"""Hashes of model files: SHA-256 with a cache on disk, and AUTOMATIC1111's old hash. This module imports no torch."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path

from latentd.atomic import write_atomically
from latentd.json_file import read_object
from latentd.regular import open_regular

log = logging.getLogger(__name__)

SHORT = 10
LEGACY_OFFSET, LEGACY_LENGTH = 0x100000, 0x10000


class HashCache:
    """SHA-256 by path, size and modification time, kept in ``<folder>/hashes.json``; safe from several threads.

    :param folder: the data directory's ``cache``; created when first written.
    :param enabled: False with ``--no-hashing``: every hash is None.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._file = folder / "hashes.json"
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, object]] = self._read()

    def known(self, path: Path) -> str | None:
        """The hash of ``path`` if it was computed before and the file has not changed since."""
        if not self.enabled:
            return None
        try:
            entry = self._entries.get(str(path))
            return str(entry["sha256"]) if entry and _stamp(path) == entry.get("stamp") else None
        except OSError:
            return None

    def sha256(self, path: Path) -> str | None:
        """The hash of ``path``, computed if needed; None with ``--no-hashing``.

        :raises OSError: the file cannot be read.
        """
        if not self.enabled:
            return None
        if (found := self.known(path)) is not None:
            return found
        stamp = _stamp(path)
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with self._lock:
            # Another process of this server may have added some.
            self._entries = {**self._read(), **self._entries, str(path): {"stamp": stamp, "sha256": digest}}
            self._write()
        return digest

    def _read(self) -> dict[str, dict[str, object]]:
        return {
            path: {"stamp": entry["stamp"], "sha256": entry["sha256"]}
            for path, entry in read_object(self._file).items()
            if isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and _is_stamp(entry.get("stamp"))
        }

    def _write(self) -> None:
        """Replace the file in one step. If the folder cannot be written, hashes are computed again after a restart."""
        try:
            write_atomically(self._file, json.dumps(self._entries, indent=1).encode())
        except OSError as error:
            log.warning("cannot write %s: %s", self._file, error)


def _is_stamp(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, int) for part in value)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def file_stamp(path: Path) -> list[int]:
    """Size and modification time, which change when a file is replaced; empty if there is no file."""
    try:
        return _stamp(path)
    except OSError:
        return []


def short_hash(sha256: str | None) -> str | None:
    """The first ten digits, as in titles and infotexts."""
    return sha256[:SHORT] if sha256 else None


def legacy_hash(path: Path) -> str:
    """AUTOMATIC1111's old hash: eight digits of the SHA-256 of 64 KiB at offset 1 MiB; ``NOFILE`` without a file."""
    try:
        with open_regular(path) as file:
            file.seek(LEGACY_OFFSET)
            return hashlib.sha256(file.read(LEGACY_LENGTH)).hexdigest()[:8]
    except OSError:
        return "NOFILE"
