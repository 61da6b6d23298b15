"""A latentd server as its users run it: a process of its own, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
_LISTENING = re.compile(r"listens on (http\S+)")


@dataclass(frozen=True)
class ReferenceServer:
    """Where the server is, and its data folder."""

    url: str
    data: Path

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 300) -> tuple[int, Any]:
        """(status, JSON body) of a request."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status, json.loads(reply.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def reset(self) -> None:
        """Options as the recordings were made under."""
        options = {"randn_source": "CPU", "sd_model_checkpoint": "tiny-a.safetensors", "sd_vae": "Automatic"}
        status, body = self.call("POST", "/sdapi/v1/options", options)
        assert status == 200, body


@contextmanager
def start_reference_server(
    data: Path, *flags: str, before: Callable[[], None] | None = None
) -> Iterator[ReferenceServer]:
    """A server on ``data`` at a free port, with the recordings' options.

    :param before: called in the new process before it becomes the server, to set limits of resources.
    :raises AssertionError: it did not start; with its log.
    """
    with listening(data, *flags, before=before) as url:
        server = ReferenceServer(url, data)
        server.reset()
        yield server


@contextmanager
def listening(data: Path, *flags: str, before: Callable[[], None] | None = None) -> Iterator[str]:
    """The address of a server process on ``data`` at a free port; it ends with the block. Parameters as above.

    :raises AssertionError: it did not start; with its log.
    """
    with started(data, *flags) as (url, _):
        yield url


@contextmanager
def started(
    data: Path, *flags: str, before: Callable[[], object] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Like :func:`listening`, with the process, which may be killed within the block.

    :param before: called in the process before the server begins (POSIX), to set limits.
    """
    command = [sys.executable, "-m", "latentd", "serve", "--data-dir", str(data), "--port", "0", *flags]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=before)
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if _LISTENING.search(line):
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        ready.wait(START_SECONDS)
        found = next((m for line in lines if (m := _LISTENING.search(line))), None)
        assert found is not None, "".join(lines)
        yield found[1], process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
