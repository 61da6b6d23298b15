"""What runs in a worker process: it carries out the tasks that the server sends, until the server is gone."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection

from latentd.engine.far import Stops, Task, pack_error
from latentd.logged_job import at_work
from latentd.models.allocator import keep_freed_memory
from latentd.server.far_worker import FarWorker
from latentd.settings import Settings

log = logging.getLogger(__name__)


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
    keep_freed_memory()
    sending = threading.Lock()

    def send(what: str, value: object) -> None:
        with sending:
            connection.send((what, value))

    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    try:
        modules = [(name, import_module(module)) for name, module in plugins]
        worker = FarWorker(settings, device, modules=modules, on_model=lambda *event: send("model", event))
        threading.Thread(target=_listen, args=(connection, worker, tasks), daemon=True).start()
        worker.prepare()
    except BaseException as error:
        log.exception("the process of %s cannot work", device or "the device")
        send("failed", pack_error(error))
        return
    send("ready", None)
    while True:
        task = tasks.get()
        with at_work(task.id):
            outcome = worker.run(task, lambda changes: send("progress", changes))
        send("end", outcome)
        del outcome, task


def _listen(connection: Connection, worker: FarWorker, tasks: queue.SimpleQueue[Task]) -> None:
    """Pass on what the server sends; without a server there is nothing left to do."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, Stops):
            worker.tell(message)
        else:
            tasks.put(message)


def _log_as(level: int, formatter: logging.Formatter | None) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
