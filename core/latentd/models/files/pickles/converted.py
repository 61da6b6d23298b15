"""Conversions kept on disk in ``<data>/cache/converted``, found by the identity of their source file.

Several servers may share a folder: entries are written under another name, then moved, and never changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from io import BufferedReader
from pathlib import Path

from latentd.atomic import sweep
from latentd.models.files.pickles.frames import Identity
from latentd.regular import open_regular

log = logging.getLogger(__name__)

#: Version of the description's form; raise it when that changes.
VERSION = 1
#: Bytes of the disk that conversions leave free, for pictures and options.
_LEFT_FREE = 256 << 20
_DIGITS = 24
_EVEN_SECONDS = 2 * 10**9  # in nanoseconds
_ENTRY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}-[0-9a-f]{{{_DIGITS}}}\.safetensors")


class ConvertedFiles:
    """The folder of conversions.

    The modification time of an entry is set to that of its source, in whole even seconds, which every file system can
    store: an entry with another time has been written to and is not used. The access time is set at each use.

    :param most: bytes of all entries; the least recently used are removed first. 0: none is kept.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self.most = most

    def find(self, path: Path, source: Identity) -> BufferedReader | None:
        """The entry of ``path`` in the state ``source``, opened; None if there is none, or it has been changed."""
        entry = self._folder / _name(path, source)
        if self.most <= 0:
            return None
        try:
            file = open_regular(entry)
        except OSError:
            return None
        if os.fstat(file.fileno()).st_mtime_ns != _mark(source):
            file.close()
            self.drop(path, source)
            return None
        self._touch(entry, source)
        return file

    def scratch(self, size: int) -> Path | None:
        """A name for a new conversion of a file of ``size`` bytes; None without room, or without a writable folder."""
        if size > self.most:
            return None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < size + _LEFT_FREE:
                return None
        except OSError:
            return None
        sweep(self._folder)
        return self._folder / f".latentd-{secrets.token_hex(8)}.tmp"

    def keep(self, scratch: Path, path: Path, source: Identity) -> None:
        """Make ``scratch`` the entry of ``path``; remove entries of its earlier states, and those beyond the bound."""
        name = _name(path, source)
        try:
            self._touch(scratch, source, strict=True)
            scratch.replace(self._folder / name)
        except OSError as error:
            log.warning("the conversion of %s is not kept: %s", path.name, error)
            self.discard(scratch)
            return
        self._prune(name)

    def drop(self, path: Path, source: Identity) -> None:
        """Remove the entry of ``path``, which is damaged."""
        log.warning("the conversion of %s in %s is damaged; it is made again", path.name, self._folder)
        self.discard(self._folder / _name(path, source))

    def discard(self, file: Path) -> None:
        """Remove ``file`` if that is possible."""
        with contextlib.suppress(OSError):
            file.unlink()

    def _touch(self, entry: Path, source: Identity, *, strict: bool = False) -> None:
        try:
            os.utime(entry, ns=(time.time_ns(), _mark(source)))
        except (OSError, OverflowError) as error:
            if strict:
                raise OSError(f"its time cannot be set: {error}") from error

    def _prune(self, newest: str) -> None:
        """Remove entries of the same file's other states, then the least recently used until the rest fits."""
        try:
            with os.scandir(self._folder) as found:
                entries = [(entry.stat(), entry.name) for entry in found if _ENTRY.fullmatch(entry.name)]
        except OSError:
            return
        total = 0
        for status, name in sorted(entries, key=lambda entry: (entry[1] != newest, -entry[0].st_atime_ns)):
            is_stale = name != newest and name[:_DIGITS] == newest[:_DIGITS]
            total += 0 if is_stale else status.st_size
            if is_stale or (total > self.most and name != newest):
                self.discard(self._folder / name)


def _name(path: Path, source: Identity) -> str:
    where = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:_DIGITS]
    state = hashlib.sha256(repr((VERSION, source)).encode()).hexdigest()[:_DIGITS]
    return f"{where}-{state}.safetensors"


def _mark(source: Identity) -> int:
    return source.mtime_ns // _EVEN_SECONDS * _EVEN_SECONDS
