"""Conversions kept on disk, ``<data>/cache/converted``: found by the identity of the file that they are of.

Several servers may share a folder: entries are written under another name and moved, and never changed.
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

#: Goes up when the description changes.
VERSION = 1
#: Bytes that a conversion leaves free on the disk, for pictures and options.
_LEFT_FREE = 256 << 20
_DIGITS = 24
_EVEN_SECONDS = 2 * 10**9  # in nanoseconds
_ENTRY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}-[0-9a-f]{{{_DIGITS}}}\.safetensors")


class ConvertedFiles:
    """The folder of conversions.

    An entry's modification time is made that of its source (whole even seconds, as every file system keeps them): one
    that was written to since is not trusted. The time of its last use is its access time, which is set by hand.

    :param most: bytes of all entries; those used longest ago go first. 0: none is kept.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self.most = most

    def find(self, path: Path, source: Identity) -> BufferedReader | None:
        """The entry of ``path`` in that state, opened; None where there is none, or none to trust."""
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
        """A name for a new conversion of a file of ``size`` bytes; None where it has no room or no place."""
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
        """Make ``scratch`` the entry of ``path``; entries of its earlier states go, and what is beyond the bound."""
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
        """Remove the entry of ``path``, which turned out to be damaged."""
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
        """Remove entries of other states of the newest's file, then those used longest ago until the rest fits."""
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
