"""A latentd server as a child process: started, waited for, spoken to, stopped. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

START_SECONDS = 120.0


class ServerDied(Exception):
    """The server ended before it answered."""


@contextmanager
def running_server(address: str, flags: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a server that answers at ``address``; it is stopped at the end.

    :raises ServerDied: it ended instead, or something else answers there already.
    """
    if answers(address):
        raise ServerDied(f"another server answers at {address}; choose another port (make run PORT=7861)")
    process = subprocess.Popen([sys.executable, "-m", "latentd", "serve", *flags])
    try:
        wait_for(address, process)
        yield process
    finally:
        stop(process)


def answers(address: str) -> bool:
    """Whether anything listens at ``address``."""
    parts = urlsplit(address)
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((parts.hostname or "127.0.0.1", parts.port or 80)) == 0


def wait_for(address: str, process: subprocess.Popen[bytes]) -> float:
    """Seconds until ``address`` answered."""
    begun = time.monotonic()
    while time.monotonic() - begun < START_SECONDS:
        if process.poll() is not None:
            raise ServerDied(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"{address}/livez", timeout=5):
                return time.monotonic() - begun
        except urllib.error.HTTPError:
            return time.monotonic() - begun
        except OSError:
            time.sleep(0.05)
    raise ServerDied(f"the server did not answer within {START_SECONDS:.0f} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and insist after ten seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def call(address: str, path: str, body: Any = None, timeout: float = 600.0) -> Any:
    """The JSON answer of ``path``: POST when there is a body, else GET."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)
