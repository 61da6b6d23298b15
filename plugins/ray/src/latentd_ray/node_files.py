"""Model files on a machine of the cluster: found by their hashes, or taken in as they come from the server."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from latentd.api import HashCache, LatentdError, NeededFile, Settings, find_models

#: ``other``: there is a file of that name with other contents.
Finding = Literal["there", "linked", "missing", "other"]
#: A copy that has not grown for as many seconds is of an actor that has ended.
ABANDONED = 3600.0


class NodeFiles:
    """The folders of models of this machine.

    :param settings: the server's, with this machine's folders.
    """

    def __init__(self, settings: Settings) -> None:
        self._paths = settings.paths
        self._hashes = HashCache(self._paths.data / "cache", enabled=not settings.no_hashing)

    def find(self, file: NeededFile) -> Finding:
        """Look for ``file``: under its name, else under any name in its kind's folders, of which it becomes another.

        Only files of its size are read to take their hashes.
        """
        for folder in self._paths.models(file.kind):
            path = _within(folder, file.name)
            if path.is_dir():  # in diffusers' form, which only its name tells from others
                return "there"
            if path.is_file():
                return "there" if self._is(path, file) else "other"
        for path in self._candidates(file):
            if self._is(path, file):
                self._link(path, self._place(file))
                return "linked"
        return "missing"

    def _is(self, path: Path, file: NeededFile) -> bool:
        if path.stat().st_size != file.size:
            return False
        return file.sha256 is None or self._hashes.sha256(path) == file.sha256

    def _candidates(self, file: NeededFile) -> Iterator[Path]:
        if file.sha256 is None:
            return
        for folder in self._paths.models(file.kind):
            for found in find_models(folder, (Path(file.name).suffix.lower(),)):
                with suppress(OSError):
                    if found.path.stat().st_size == file.size:
                        yield found.path

    def _place(self, file: NeededFile) -> Path:
        return _within(self._paths.models(file.kind)[0], file.name)

    def _link(self, path: Path, name: Path) -> None:
        name.parent.mkdir(parents=True, exist_ok=True)
        try:
            name.hardlink_to(path)
        except FileExistsError:  # another actor of this machine was first
            return
        except OSError:
            name.symlink_to(path)

    # --- copies ------------------------------------------------------------------------------------------------------

    def take(self, file: NeededFile, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset`` of a copy of ``file``, which nothing sees until :meth:`finish`.

        :raises LatentdError: the disk has no room for it.
        """
        part = self._part(file)
        if offset == 0:
            part.parent.mkdir(parents=True, exist_ok=True)
            self._drop_abandoned(part.parent)
            if shutil.disk_usage(part.parent).free < file.size:
                raise LatentdError(f"{part.parent} has no room for {file.name}: {file.size} bytes", status=507)
        with part.open("wb" if offset == 0 else "r+b") as written:
            written.seek(offset)
            written.write(data)

    def finish(self, file: NeededFile) -> None:
        """Let the copy of ``file`` be seen under its name.

        :raises LatentdError: it is not what the server has; the copy is deleted.
        """
        part = self._part(file)
        with part.open("rb") as copied:
            digest = hashlib.file_digest(copied, "sha256").hexdigest()
        if part.stat().st_size != file.size or file.sha256 not in (None, digest):
            part.unlink()
            raise LatentdError(f"the copy of {file.name} is damaged or its file has changed", hint="try again")
        os.replace(part, self._place(file))  # noqa: PTH105 (the rename in one step, over what another actor copied)

    def _part(self, file: NeededFile) -> Path:
        place = self._place(file)
        return place.with_name(f".{place.name}.{os.getpid()}.part")

    @staticmethod
    def _drop_abandoned(folder: Path) -> None:
        for part in folder.glob(".*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()


def _within(folder: Path, name: str) -> Path:
    """``folder/name``.

    :raises LatentdError: that is not within the folder.
    """
    path = folder / name
    if ".." in path.parts or not path.is_relative_to(folder):
        raise LatentdError(f"{name!r} is not within {folder}")
    return path
