"""What runs in a worker process: it carries out the tasks that the server sends, until the server is gone."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection

from latentd.engine.far import FarMessage, FarNews
from latentd.server.far_worker import serve_far
from latentd.settings import Settings


def main(
    connection: Connection,
    settings: Settings,
    device: str | None,
    plugins: Sequence[tuple[str, str]],
    handlers: tuple[int, logging.Formatter | None],
) -> None:
    """Carry out the tasks that come over ``connection`` until it is closed."""
    # The server is told to stop by the same signals, and lets the running job return what it has.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _log_as(*handlers)
    modules = ((name, import_module(module)) for name, module in plugins)
    serve_far(_Pipe(connection), settings, device, modules=modules)


class _Pipe:
    """Implements :class:`latentd.engine.far.FarChannel`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, news: FarNews) -> None:
        """Send ``news``; on any thread."""
        with self._sending:
            self._connection.send(news)

    def receive(self) -> FarMessage:
        """Wait for the next message.

        :raises EOFError: the server is gone.
        """
        try:
            message: FarMessage = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return message


def _log_as(level: int, formatter: logging.Formatter | None) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
