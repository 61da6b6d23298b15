"""Writing files so that they are complete or do not exist."""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import time
from pathlib import Path
from threading import Lock

log = logging.getLogger(__name__)

#: A scratch file older than this, in seconds, belongs to a write that was killed: no write takes so long.
STALE = 3600.0
_SCRATCH = re.compile(r"\.latentd-[0-9a-f]{16}\.tmp")
_swept: set[Path] = set()
_lock = Lock()


def write_atomically(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Replace the contents of ``path`` by ``data``; a reader sees the whole old or the whole new file.

    The first write into a folder removes the scratch files of writes that were killed.

    :param sync: wait until the data are on the disk, for files that must survive a power cut.
    :raises OSError: the folder cannot be written; no scratch file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    # A new file follows the process's umask by itself; reading the umask would change it for a moment.
    scratch = path.with_name(f".latentd-{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("xb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _sweep_once(folder: Path) -> None:
    with _lock:
        if folder in _swept:
            return
        _swept.add(folder)
    sweep(folder)


def sweep(folder: Path, *, older_than: float = STALE) -> None:
    """Remove the scratch files in ``folder`` that are older than ``older_than`` seconds, and nothing else."""
    latest = time.time() - older_than
    try:
        with os.scandir(folder) as entries:
            left = [Path(entry.path) for entry in entries if _SCRATCH.fullmatch(entry.name)]
        for path in left:
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mtime < latest:
                path.unlink()
                log.info("%s of a write that was interrupted is removed", path)
    except OSError as error:  # a scratch file that cannot be removed must not fail the write
        log.debug("%s is not swept: %s", folder, error)
