"""Opening files in users' folders, after checking that they are regular files.

A pipe, a socket or a device with the name of a weight file would block forever when it is opened: at the start, in a
list, or in the middle of a generation.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from latentd.errors import ModelLoadError

# With this flag, opening a pipe for reading does not wait for its writer. It has no effect on regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegular(OSError):
    """A pipe, a socket, a device or a folder stands where a file was expected."""


def is_regular(path: Path) -> bool:
    """Whether ``path``, after links, is a regular file; False also if that cannot be found out."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BufferedReader:
    """``path`` opened for reading bytes.

    :raises NotRegular: it is not a regular file; this is raised without waiting.
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
    """Check ``path``, or everything in it if it is a folder, before a library opens it by its name.

    :raises ModelLoadError: there is a pipe, a socket or a device, or something is missing or unreadable; the message
        names it.
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
