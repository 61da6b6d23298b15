"""Files that users put into folders, opened only where they are files.

A pipe, a socket or a device under a weight's name would block whoever opens it, for good: at the start, in a list or in
the middle of a generation.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from latentd.errors import ModelLoadError

# Opening a pipe for reading waits for its writer; with this it does not. Without effect on regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegular(OSError):
    """A pipe, a socket, a device or a folder stands where a file was expected."""


def is_regular(path: Path) -> bool:
    """Whether ``path`` is a file, links followed; False as well for what cannot be looked at."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BufferedReader:
    """``path`` opened for reading bytes.

    :raises NotRegular: it is no regular file; nothing is waited for.
    :raises OSError: it is missing or cannot be read.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        if path.exists() and not is_regular(path):
            raise _refusal(path) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refusal(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int) -> bytes:
    """All of the file ``path``.

    :raises NotRegular: it is no regular file.
    :raises OSError: it is missing or cannot be read.
    :raises ValueError: it is larger than ``max_bytes``.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path.name} is larger than {max_bytes} bytes")
    return data


def check_regular(path: Path) -> None:
    """For libraries that open ``path`` by its name: it, or all that lies in it where it is a folder, is regular.

    :raises ModelLoadError: a pipe, a socket or a device is among it, or it is missing or cannot be looked at; names it.
    """
    try:
        inside = path.rglob("*") if path.is_dir() else [path]
        odd = next((item for item in inside if not is_regular(item) and not item.is_dir()), None)
    except OSError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error.strerror}") from error
    if odd is not None:
        raise ModelLoadError(f"{odd.name} is no regular file")


def _refusal(path: Path) -> NotRegular:
    return NotRegular(f"{path.name} is no regular file")
