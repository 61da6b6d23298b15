"""A worker in a process of its own, which is started again when it ends: a crash there costs one job."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, TypeVar, cast

from latentd.engine.far import Mirror, Outcome, Task, pack, unpack_error
from latentd.errors import DeviceLost, LatentdError, OutOfMemory
from latentd.executors import DeviceTrouble, ExecutorJob, PortableWork
from latentd.types import JobControl, JsonValue

if TYPE_CHECKING:
    from latentd.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between looks at whether a job is to stop; a message from the process is heard at once.
POLL = 0.02
#: Seconds for which a process may take to start: it imports torch.
START = 300.0
#: After so many processes in a row that ended before they completed a job, no further one is started.
DEATHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What a worker process needs of the server, and what the server learns from it.

    :ivar plugins: names of modules that are plugins without being installed.
    :ivar options: the present value of every option.
    :ivar scans: how often the server has looked through its folders.
    :ivar learn: takes SHA-256 of checkpoint files.
    :ivar on_model: takes a model's kind and file, and ``loaded`` or ``unloaded``.
    :ivar on_precision: takes a place's name and what is loaded there, in the shape of ``/latentd/v1/precision``.
    """

    settings: Settings
    plugins: Sequence[tuple[str, str]]
    options: Callable[[], Mapping[str, JsonValue]]
    scans: Callable[[], int]
    learn: Callable[[Mapping[str, str]], None]
    on_model: Callable[[str, str], None]
    on_precision: Callable[[str, Sequence[JsonValue]], None]


class ProcessRunner:
    """Implements :class:`latentd.executors.Runner` by a process. Work that is not portable runs in this one.

    :param name: name of the place.
    :param device: the one of ``--devices`` that the process drives; None for the machine's own choice.
    :param here: called on this runner's thread before the first work that cannot be sent.
    """

    def __init__(self, name: str, device: str | None, home: Home, *, here: Callable[[], None]) -> None:
        self.name = name
        self._device = device
        self._home = home
        self._here: Callable[[], None] | None = here
        self._child: _Child | None = None
        self._deaths = 0
        self._lost: str | None = None
        self._closed = False
        self._memory: Mapping[str, Mapping[str, JsonValue]] | None = None

    def prepare(self) -> None:
        """Start the process and wait until it can work.

        :raises DeviceTrouble: it cannot.
        """
        try:
            self._ready()
        except LatentdError as error:
            raise DeviceTrouble(error.detail, lasting=True) from error

    def run(self, job: ExecutorJob[T], work: Callable[[JobControl], T]) -> T:
        """The result of ``work``, from the process where it is portable.

        :raises DeviceLost: the process ended.
        """
        if isinstance(work, PortableWork):
            portable: PortableWork[T] = work
            return portable.carry(job, lambda: self._far(job, portable))
        here, self._here = self._here, None
        if here is not None:
            here()
        return work(job)

    def _far(self, job: ExecutorJob[T], work: PortableWork[T]) -> T:
        self._lost = None
        child = self._ready()
        task = Task(
            id=job.id,
            kind=job.kind,
            work=pack(work),
            options=dict(self._home.options()),
            scans=self._home.scans(),
            warnings=job.progress.warnings,
            last_steps=job.progress.sampling_steps,
        )
        try:
            child.connection.send(task)
            outcome = self._await(child, Mirror(job))
        except (EOFError, OSError) as error:
            raise self._ended() from error
        self._memory = outcome.memory
        self._home.learn(outcome.hashes)
        self._home.on_precision(self.name, outcome.precision)
        if outcome.error is None:
            self._deaths = 0
            return cast("T", outcome.result)
        failure = unpack_error(outcome.error)
        if outcome.lost:
            self._lost = str(failure)
            self._drop()
        if not isinstance(failure, LatentdError):
            log.error("in the process of %s: %s", self.name, outcome.trace)
        raise failure

    def _await(self, child: _Child, mirror: Mirror) -> Outcome:
        while True:
            if child.connection.poll(POLL):
                what, value = child.connection.recv()
                if what == "end":
                    outcome: Outcome = value
                    return outcome
                if what == "progress":
                    mirror.show(value)
                elif what == "model":
                    self._home.on_model(*value)
            if (news := mirror.news()) is not None:
                child.connection.send(news)

    def _ready(self) -> _Child:
        """The process, started if there is none, when it can work.

        :raises LatentdError: it cannot.
        """
        if self._child is not None and self._child.process.exitcode is not None:
            log.warning("the process of %s has ended while it had nothing to do", self.name)
            self._drop()
        if self._child is None:
            self._start()
        child = self._child
        assert child is not None
        if not child.is_ready:
            try:
                if not child.connection.poll(START):
                    raise EOFError("it does not start")
                what, value = child.connection.recv()
            except (EOFError, OSError) as error:
                raise self._ended() from error
            if what == "failed":
                self._drop()
                failure = unpack_error(value)
                raise failure if isinstance(failure, LatentdError) else DeviceLost(str(failure))
            self._memory = value
            child.is_ready = True
        return child

    def _start(self) -> None:
        if self._closed:
            raise DeviceLost("the server is shutting down")
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._home.settings, self._device, tuple(self._home.plugins), _log_handlers())
        process = context.Process(target=_main, args=arguments, name=f"latentd {self.name}", daemon=True)
        process.start()
        theirs.close()
        log.info("process %s drives %s", process.pid, self.name)
        self._child = _Child(process, ours)

    def _ended(self) -> DeviceLost:
        """What is to be said of the process that has ended; it is forgotten."""
        child, self._child = self._child, None
        how = "ended"
        self._home.on_precision(self.name, ())
        if child is not None:
            child.end()
            code = child.process.exitcode
            how = (
                "ended" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
            )
        self._deaths += 1
        text = f"the process of {self.name} {how} while it worked on this job"
        return DeviceLost(text, hint="it is started again; no other job is lost")

    def diagnose(self, error: BaseException) -> DeviceTrouble | None:
        """Whether memory ran out, the device was lost, or processes end one after another."""
        if isinstance(error, OutOfMemory):
            return DeviceTrouble(str(error), lasting=False)
        if self._lost is not None:
            return DeviceTrouble(self._lost, lasting=False)
        if isinstance(error, DeviceLost) and self._deaths >= DEATHS:
            return DeviceTrouble(f"{self._deaths} processes in a row ended in mid-job", lasting=True, retry=False)
        return None

    def tidy(self) -> None:
        """Start the process again at once if it has ended, so that the next job need not wait as long."""
        if self._child is None and not self._closed and self._deaths < DEATHS:
            self._start()

    def close(self) -> None:
        """End the process, also in mid-job."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        child, self._child = self._child, None
        self._home.on_precision(self.name, ())
        if child is not None:
            child.end()

    def memory(self) -> Mapping[str, Mapping[str, JsonValue]] | None:
        """The process's bytes after its last job."""
        return self._memory


@dataclass(slots=True)
class _Child:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    is_ready: bool = False

    def end(self) -> None:
        self.process.kill()
        self.process.join(5)
        self.connection.close()


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
