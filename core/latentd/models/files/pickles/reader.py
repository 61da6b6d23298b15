"""The server's side of the reader of weight files: one process, started for the first file."""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from latentd.models.files.pickles.frames import Request, read_frame, write_frame
from latentd.types import JsonValue

#: Seconds for one file, and the bytes of it that allow one second more; enough for slow disks.
SECONDS, BYTES_A_SECOND = 60.0, 4 << 20
_START = (
    "import sys; sys.path.append(sys.argv[1])\nfrom latentd.models.files.pickles.process import main\nsys.exit(main())"
)
#: Environment variables that the process needs: with them the system finds the interpreter's libraries.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class ReaderFailed(Exception):
    """The process could not be started, or ended while it read the file; the message says how."""


class PickleReader:
    """Has the reader's process read files, one at a time; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process; None while none runs."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    def read(self, path: Path, *, size: int, into: Path | None, most: int) -> dict[str, JsonValue]:
        """The answer about one file (:mod:`latentd.models.files.pickles.process`).

        :param size: bytes of the file, which determine the time it may take.
        :param into: where to write the file as safetensors, if that needs no more than ``most`` bytes.
        :raises ReaderFailed: the process ended or took too long; the next file gets a new one.
        """
        request = Request(_name(path), None if into is None else _name(into), most)
        seconds = SECONDS + size / BYTES_A_SECOND
        with self._lock:
            for is_last in (False, True):
                child = self._child = self._child or _Child()
                try:
                    return child.ask(request, seconds)
                except _Idle:  # it ended, being idle, just before this request
                    self._child = None
                    if is_last:
                        raise
                except ReaderFailed:
                    self._child = None
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            if self._child is not None:
                self._child.end()
                self._child = None


class _Idle(ReaderFailed):
    """The process ended because it was idle, before it took the request."""


class _Child:
    """One process and the thread that reads its answers.

    :raises ReaderFailed: it cannot be started.
    """

    def __init__(self) -> None:
        root = str(Path(__file__).parents[4])
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # It gets neither the environment's paths nor site-packages. In a session of its own, it gets no Ctrl+C.
        command = [sys.executable or "python3", "-I", "-S", "-X", "utf8", "-c", _START, root]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=os.path.abspath(os.sep),  # noqa: PTH100
                start_new_session=True,
            )
        except OSError as error:
            raise ReaderFailed(f"its reader cannot be started: {error.strerror}") from error
        self._answers: queue.Queue[dict[str, JsonValue] | None] = queue.Queue()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests: IO[bytes] = self.process.stdin
        threading.Thread(target=self._listen, args=(self.process.stdout,), name="pickle reader", daemon=True).start()

    def ask(self, request: Request, seconds: float) -> dict[str, JsonValue]:
        """The answer to ``request``.

        :raises ReaderFailed: the process ended, or did not answer in time.
        """
        try:
            write_frame(self._requests, request.as_frame())  # type: ignore[arg-type]
        except OSError:
            raise self._ended() from None
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.end()
            raise ReaderFailed(f"reading it took longer than {seconds:.0f} seconds") from None
        if answer is None:
            raise self._ended()
        return answer

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._requests.close()

    def _listen(self, answers: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError, RecursionError), answers:
            while (answer := read_frame(answers)) is not None:  # type: ignore[arg-type]
                self._answers.put(answer)
        self._answers.put(None)
        self.process.wait()

    def _ended(self) -> ReaderFailed:
        """The error for a process that has closed its output, with the way it ended."""
        try:
            status = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.end()
            return ReaderFailed("its reader wrote something that is no answer")
        with contextlib.suppress(OSError):
            self._requests.close()
        if status == 0:
            return _Idle("its reader ended")
        return ReaderFailed(f"its reader ended ({f'signal {-status}' if status < 0 else f'status {status}'})")


def _name(path: Path) -> str:
    return base64.b64encode(os.fsencode(path.absolute())).decode()
