"""The reader's process: reads weight files in pickle form for the server, under limits, and ends with it.

Standard input and output carry frames: 4 bytes of length (little endian), then JSON. A request is
``{"path": base64, "into": base64 or null, "most": bytes}``; the answer to it one of

- ``{"written": true, "identity": [...]}``: the file was converted to ``into``;
- ``{"written": false, "identity": [...], "description": {...}}``: it was only read; tensors are used from the file;
- ``{"refused": "..."}``: what is wrong with it.

``identity`` is that of the file that was read. Started without the environment and without site-packages, it imports
the standard library and this package.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import queue
import sys
import threading
import time
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from latentd.models.files.pickles.containers import read_contents
from latentd.models.files.pickles.convert import write_safetensors
from latentd.models.files.pickles.describe import Description
from latentd.models.files.pickles.frames import MAX_FRAME, Request, identity_of, read_frame, write_frame
from latentd.models.files.pickles.walk import PickleRefused
from latentd.regular import open_regular
from latentd.types import JsonValue

#: Seconds without a request after which the process ends.
IDLE = 120.0
#: Bytes of memory for reading one file: for its names and arrays; tensors are copied in pieces.
MEMORY = 1 << 30
#: Seconds of computing, and bytes of the file for one second more.
COMPUTING, BYTES_A_SECOND = 30, 32 << 20
_WRITABLE = 64 << 20


def main(incoming: BinaryIO = sys.stdin.buffer, outgoing: BinaryIO = sys.stdout.buffer) -> None:
    """Answer requests until none comes for a while, or the server ends."""
    reader = ReaderProcess(incoming)
    threading.Thread(target=reader.listen, daemon=True).start()
    while (request := reader.next()) is not None:
        answer = reader.answer(request)
        write_frame(outgoing, answer)
        if answer.get("spent"):
            break
    # Returning would not end the process, because the thread that waits for requests holds the input's lock.
    os._exit(0)


class ReaderProcess:
    """One reader. A thread takes requests from ``incoming``, so that the end of the server is noticed while reading."""

    def __init__(self, incoming: BinaryIO) -> None:
        self._incoming = incoming
        self._requests: queue.Queue[Request] = queue.Queue()
        self._scratch: Path | None = None

    def listen(self) -> None:
        """Take requests; when the server ends, remove the scratch file and end at once."""
        with contextlib.suppress(OSError, ValueError):
            while (frame := read_frame(self._incoming)) is not None:
                self._requests.put(Request.of(frame))
        if (scratch := self._scratch) is not None:
            with contextlib.suppress(OSError):
                scratch.unlink()
        os._exit(0)

    def next(self) -> Request | None:
        """The next request; None after a time without one."""
        try:
            return self._requests.get(timeout=IDLE)
        except queue.Empty:
            return None

    def answer(self, request: Request) -> dict[str, JsonValue]:
        """Read one file; the answer says what is wrong with it. ``spent``: memory ran out, so this process must end."""
        try:
            return self._read(request)
        except PickleRefused as error:
            return {"refused": str(error)}
        except OSError as error:
            return {"refused": f"damaged: {error.strerror or error}"}
        except (MemoryError, RecursionError):
            return {"refused": "it asks for more memory than a weight file needs", "spent": True}
        except Exception as error:  # a damaged or hostile file may cause any error
            return {"refused": f"damaged: {type(error).__name__}: {str(error)[:200]}"}

    def _read(self, request: Request) -> dict[str, JsonValue]:
        path = Path(os.fsdecode(base64.b64decode(request.path)))
        with open_regular(path) as file:
            before = identity_of(file)
            set_limits(before.size)
            description = Description(read_contents(file), before.size)
            written = self._convert(description, file, request) if request.into else False
            if identity_of(file) != before:
                raise PickleRefused("it was changed while it was read")
        answer: dict[str, JsonValue] = {"written": written, "identity": before.as_list()}
        if not written:
            answer["description"] = description.as_json(inline=True)
            if len(json.dumps(answer)) > MAX_FRAME:
                raise PickleRefused("more beside its weights than a weight file has")
        return answer

    def _convert(self, description: Description, file: BufferedReader, request: Request) -> bool:
        """Write the conversion; return False if that is not possible, as on a full disk or without the right."""
        self._scratch = target = Path(os.fsdecode(base64.b64decode(request.into or "")))
        try:
            return write_safetensors(description, file, target, request.most)
        except OSError:
            return False
        finally:
            self._scratch = None


def set_limits(size: int) -> None:
    """Limit the memory and time of reading a file of ``size`` bytes, on systems that have such limits."""
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", MEMORY)
    _limit("RLIMIT_CPU", int(time.process_time()) + COMPUTING + size // BYTES_A_SECOND)
    _limit("RLIMIT_FSIZE", size + _WRITABLE)
    _limit("RLIMIT_NOFILE", 64)


def _limit(name: str, value: int) -> None:
    """Set a soft limit, no higher than the hard one."""
    try:
        resource: Any = importlib.import_module("resource")  # Unix alone has it
        kind = getattr(resource, name)
    except (ImportError, AttributeError):  # Windows has no such limits, and not every system has every one
        return
    hard = resource.getrlimit(kind)[1]
    with contextlib.suppress(OSError, ValueError):  # not every system lets every limit be set
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    main()
