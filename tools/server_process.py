"""A latentd server as its users run it: a process of its own, spoken to over HTTP. Standard library only.

Tools, tests and benchmarks start their servers here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

START_SECONDS = 120.0
STOP_SECONDS = 20.0
SERVE = (sys.executable, "-m", "latentd", "serve")
_LISTENING = re.compile(r"listens on (http\S+)")


class ServerDied(Exception):
    """The server ended, or was silent, before it said where it listens; with its log."""


@dataclass
class ServerProcess:
    """A server that serves: its process and its log so far, a line each, with line ends."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    url: str = ""

    def ended(self, seconds: float = START_SECONDS) -> tuple[int, str]:
        """(exit status, whole log) once the process has ended, which it must do by itself."""
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status, "".join(self.lines)

    def read(self, *, echo: bool) -> None:
        """Collect the log in a thread until the server says where it listens.

        :param echo: show it on this process's standard error, too.
        :raises ServerDied: it does not.
        """
        ready = threading.Event()

        def collect() -> None:
            for line in self.process.stderr or ():
                self.lines.append(line)
                if echo:
                    print(line, end="", file=sys.stderr, flush=True)
                if _LISTENING.search(line):
                    ready.set()
            ready.set()

        self._reader = threading.Thread(target=collect, daemon=True)
        self._reader.start()
        ready.wait(START_SECONDS)
        found = next((match for line in self.lines if (match := _LISTENING.search(line))), None)
        if found is None:
            raise ServerDied("the server did not start" + ("" if echo else ":\n" + "".join(self.lines)))
        self.url = found[1]

    def stop(self) -> None:
        """Ask the process to end, and insist after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(STOP_SECONDS)
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextmanager
def server_process(
    *flags: str,
    command: Sequence[str] = SERVE,
    echo: bool = False,
    before: Callable[[], object] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """A server with ``flags``, at a free port unless they say otherwise; it is stopped when the block is left.

    :param command: what starts a server, without flags.
    :param echo: show its log on this process's standard error.
    :param before: called in the new process before it becomes the server (POSIX), to set limits of resources.
    :param environment: variables for the server beside those of this process.
    :raises ServerDied: it did not start.
    """
    port = () if "--port" in flags else ("--port", "0")
    process = subprocess.Popen(
        [*command, *port, *flags],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        preexec_fn=before,
    )
    server = ServerProcess(process)
    try:
        server.read(echo=echo)
        yield server
    finally:
        server.stop()


def ask(url: str, method: str, path: str, body: Any = None, *, timeout: float = 300) -> tuple[int, Any]:
    """(status, JSON body) of a request; ``body`` is sent as JSON unless it is None."""
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, json.loads(reply.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or "null")


def call(url: str, path: str, body: Any = None, *, timeout: float = 600) -> Any:
    """The JSON answer of ``path``: POST when there is a body, else GET.

    :raises RuntimeError: the status is not 2xx; with the answer.
    """
    status, answer = ask(url, "GET" if body is None else "POST", path, body, timeout=timeout)
    if status // 100 != 2:
        raise RuntimeError(f"{path}: {status} {json.dumps(answer)}")
    return answer
