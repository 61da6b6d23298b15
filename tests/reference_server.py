"""A server process under the options that the recordings were made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.server_process import ServerProcess, ask, server_process


@dataclass(frozen=True)
class ReferenceServer:
    """Where the server is, and its data folder."""

    url: str
    data: Path

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 300) -> tuple[int, Any]:
        """(status, JSON body) of a request."""
        return ask(self.url, method, path, body, timeout=timeout)

    def reset(self) -> None:
        """Options as the recordings were made under."""
        options = {"randn_source": "CPU", "sd_model_checkpoint": "tiny-a.safetensors", "sd_vae": "Automatic"}
        status, body = self.call("POST", "/sdapi/v1/options", options)
        assert status == 200, body


@contextmanager
def start_reference_server(
    data: Path, *flags: str, before: Callable[[], object] | None = None
) -> Iterator[ReferenceServer]:
    """A server on ``data`` at a free port, with the recordings' options. Parameters as in :func:`server_process`."""
    with listening(data, *flags, before=before) as url:
        server = ReferenceServer(url, data)
        server.reset()
        yield server


@contextmanager
def listening(data: Path, *flags: str, before: Callable[[], object] | None = None) -> Iterator[str]:
    """The address of a server process on ``data`` at a free port; it ends with the block."""
    with started(data, *flags, before=before) as server:
        yield server.url


@contextmanager
def started(data: Path, *flags: str, before: Callable[[], object] | None = None) -> Iterator[ServerProcess]:
    """Like :func:`listening`, with the process, which may be killed within the block."""
    with server_process("--data-dir", str(data), *flags, before=before) as server:
        yield server
