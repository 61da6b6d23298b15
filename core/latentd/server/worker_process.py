"""A worker in a process of its own, as the server reaches it."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from latentd.engine.far import FarMessage, FarNews, LinkLost
from latentd.executors import NeededFile
from latentd.types import JobControl

if TYPE_CHECKING:
    from latentd.settings import Settings

log = logging.getLogger(__name__)


class ProcessLink:
    """Implements :class:`latentd.engine.far.FarLink` by a process, which this starts, and a pipe.

    :param name: name of the place.
    :param settings: the server's.
    :param device: the one of ``--devices`` that the process drives; None for the machine's own choice.
    :param plugins: names of plugins that are not installed distributions, and of their modules.
    """

    def __init__(self, name: str, settings: Settings, device: str | None, plugins: Sequence[tuple[str, str]]) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, settings, device, tuple(plugins), _log_handlers())
        self._process = context.Process(target=_main, args=arguments, name=f"latentd {name}", daemon=True)
        self._process.start()
        theirs.close()
        log.info("process %s drives %s", self._process.pid, name)

    def send(self, message: FarMessage) -> None:
        """Send ``message``.

        :raises LinkLost: the process has ended.
        """
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._lost() from error

    def supply(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        """False: the process reads the server's folders."""
        return False

    def receive(self, timeout: float) -> FarNews | None:
        """The next news within ``timeout`` seconds.

        :raises LinkLost: the process has ended.
        """
        try:
            if not self._pipe.poll(timeout):
                return None
            news: FarNews = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        return news

    def _lost(self) -> LinkLost:
        self._process.join(5)
        code = self._process.exitcode
        how = "ended" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return LinkLost(f"the process of {self._name} {how}")

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join(5)
        self._pipe.close()


def _main(*arguments: object) -> None:  # those of the far side's function
    """The process's main function, found by its name: that module builds services, of which this one is a part."""
    import_module("latentd.server.worker_main").main(*arguments)


def _log_handlers() -> tuple[int, logging.Formatter | None]:
    root = logging.getLogger()
    formatter = root.handlers[0].formatter if root.handlers else None
    try:
        pickle.dumps(formatter)
    except Exception:  # a test runner's, which holds on to its terminal
        formatter = None
    return root.level, formatter
