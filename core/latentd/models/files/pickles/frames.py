"""The protocol between the server and its reader of weight files: frames of JSON, requests, a file's identity."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import BinaryIO

from latentd.types import JsonValue

#: The longest frame, in bytes.
MAX_FRAME = 64 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """A file and its state: the identity changes when the file is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def as_list(self) -> list[int]:
        """The numbers, for JSON."""
        return [self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to read ``path`` and write it to ``into`` (both as the file system's bytes), at most ``most`` bytes."""

    path: str
    into: str | None
    most: int

    @classmethod
    def of(cls, frame: dict[str, JsonValue]) -> Request:
        """The request in ``frame``.

        :raises ValueError: it is no request.
        """
        try:
            return cls(str(frame["path"]), frame["into"], int(frame["most"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no request: {error}") from error

    def as_frame(self) -> dict[str, JsonValue]:
        """The frame of this request."""
        return asdict(self)


def identity_of(file: BinaryIO) -> Identity:
    """The identity of an open file."""
    status = os.fstat(file.fileno())
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def write_frame(stream: BinaryIO, value: dict[str, JsonValue]) -> None:
    """Write ``value`` as one frame.

    :raises OSError: the other side has ended.
    """
    data = json.dumps(value, separators=(",", ":")).encode()
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> dict[str, JsonValue] | None:
    """The next frame; None at the end.

    :raises ValueError: the data is no frame.
    """
    head = stream.read(4)
    length = int.from_bytes(head, "little")
    if len(head) < 4:
        return None
    if length > MAX_FRAME:
        raise ValueError(f"a frame of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        return None
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("a frame that is no object")
    return value
