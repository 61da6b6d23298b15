"""A job that runs in another process: its mirror here, and what is sent between the two.

Both ends are this program, started by the same user, so what is sent is pickled. Nothing of a request is ever read this
way but as values of this program's classes.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from latentd.engine.job import Job
from latentd.errors import Interrupted, LatentdError
from latentd.executors import ExecutorJob, NeededFile, PortableWork
from latentd.model_services import CacheReport
from latentd.types import JobControl, JsonValue

if TYPE_CHECKING:
    from latentd.services import Services

T = TypeVar("T")

Memory: TypeAlias = Mapping[str, Mapping[str, JsonValue]]
"""Bytes in the shape of ``/sdapi/v1/memory``."""

#: Fields of the progress that the far side sets; the rest is the near side's.
_FIELDS = (
    *("job", "job_count", "job_no", "sampling_step", "sampling_steps", "textinfo"),
    *("preview", "preview_step", "preview_id", "warnings", "stage"),
)
#: Seconds after which the far side is told again that a client watches the job.
_WATCH_AGAIN = 5.0
#: The registries whose items are sent by their names, and the module that knows what is behind them.
_BY_NAME = (
    *("scripts", "samplers", "schedulers", "upscalers", "face_restorers"),
    *("detectors", "interrogators", "preprocessors", "postprocessors"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job as it is sent.

    :ivar work: the function and its arguments, from :func:`pack`.
    :ivar options: the server's options.
    :ivar scans: how often the server has looked through its folders; the far side looks again if that has grown.
    :ivar warnings: those that the job has already.
    :ivar last_steps: the step count that the job shows until sampling sets it.
    """

    id: str
    kind: str
    work: bytes
    options: Mapping[str, JsonValue]
    scans: int = 0
    warnings: tuple[str, ...] = ()
    last_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended on the far side.

    :ivar error: from :func:`pack_error`; None if there is a result.
    :ivar trace: the error's traceback as text, for the log.
    :ivar lost: whether the device does not compute any more, so that this process is of no use.
    :ivar memory: bytes in the shape of ``/sdapi/v1/memory``.
    :ivar hashes: SHA-256 of checkpoint files that became known.
    :ivar precision: the models that are loaded, in the shape of ``/latentd/v1/precision``.
    :ivar cache: what the far side's cache of models holds.
    """

    result: object = None
    error: bytes | None = None
    trace: str = ""
    lost: bool = False
    memory: Memory = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    precision: Sequence[JsonValue] = ()
    cache: CacheReport = field(default_factory=CacheReport)


@dataclass(frozen=True, slots=True)
class Ready:
    """The far side can work. ``memory`` are its bytes in the shape of ``/sdapi/v1/memory``, if it knows them."""

    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Unable:
    """The far side cannot work. ``error`` is from :func:`pack_error`."""

    error: bytes

    @classmethod
    def because_of(cls, error: BaseException) -> Unable:
        """The news that it cannot work because of ``error``."""
        return cls(pack_error(error))


@dataclass(frozen=True, slots=True)
class Progress:
    """Fields of the running job's progress that have changed, for :meth:`Mirror.show`."""

    changes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ModelNews:
    """A model of this kind and file was ``loaded`` or ``unloaded``."""

    kind: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """What the far side is told while a job runs. ``skips`` counts requests to end the present batch."""

    cancel: bool = False
    interrupt: bool = False
    stopping: bool = False
    skips: int = 0
    watched: int = 0


FarMessage: TypeAlias = Task | Stops
"""What the server sends to a far side: a task when it has none, and how a running one is to stop."""

FarNews: TypeAlias = Ready | Unable | Progress | ModelNews | Outcome
"""What a far side sends: ``Ready`` or ``Unable`` first, then news of tasks, each of which ends with an ``Outcome``."""


class LinkLost(Exception):
    """The far side has ended, or cannot be reached; the message says what and how: ``process 7 was ended by...``."""


class FarLink(Protocol):
    """The server's end of the way to a far side, which is starting when this is made. Messages keep their order.

    A far side is a process anywhere in which :func:`latentd.api.serve_far` runs. A :class:`latentd.api.FarRunner` uses
    this on one thread, but for :meth:`end`.
    """

    def send(self, message: FarMessage) -> None:
        """Send ``message``.

        :raises LinkLost: there is nobody.
        """

    def supply(self, files: Callable[[], Sequence[NeededFile]], control: JobControl) -> bool:
        """Make sure that the far side has ``files``; whether some are new to it.

        :raises LatentdError: it lacks one, and must not be sent it.
        :raises Interrupted: the job was stopped.
        :raises LinkLost: there is nobody.
        """

    def receive(self, timeout: float) -> FarNews | None:
        """The next news; None if there is none within ``timeout`` seconds.

        :raises LinkLost: there is nobody.
        """

    def end(self) -> None:
        """End the far side, also in mid-job, and free what it held; on any thread, and more than once."""


class FarChannel(Protocol):
    """A far side's end of the way to its server, which :func:`latentd.api.serve_far` reads from and writes to."""

    def send(self, news: FarNews) -> None:
        """Send ``news``; on any thread."""

    def receive(self) -> FarMessage:
        """Wait for the next message.

        :raises EOFError: the server is gone.
        """


@dataclass(slots=True)
class Mirror:
    """The near side of a job that runs elsewhere."""

    job: ExecutorJob[object]
    told: Stops = field(default_factory=Stops)
    _skipping: bool = False
    _watch_told: float = float("-inf")

    def news(self) -> Stops | None:
        """What the far side has to be told now; None if it knows everything. Ask every few hundredths of a second."""
        state = self.job.progress
        skips, watched = self.told.skips, self.told.watched
        if state.skipped and not self._skipping:
            skips += 1
        self._skipping = state.skipped
        if self.job.watched and time.monotonic() - self._watch_told > _WATCH_AGAIN:
            self._watch_told = time.monotonic()
            watched += 1
        now = Stops(
            cancel=self.job.stop_requested() == "cancel",
            interrupt=state.interrupted,
            stopping=state.stopping_generation,
            skips=skips,
            watched=watched,
        )
        if now == self.told:
            return None
        self.told = now
        return now

    def show(self, changes: Mapping[str, object]) -> None:
        """Take over what :class:`FarJob` sent, and publish it."""
        state = self.job.progress
        for name, value in changes.items():
            if name == "batch_begun":
                state.skipped = self._skipping = False
            elif name == "interrupted":
                state.interrupted = True
            else:
                setattr(state, name, value)
        with suppress(Interrupted):
            self.job.check()


class FarJob:
    """The far side of a job.

    :param send: called on the thread of the work with the fields of the progress that have changed.
    """

    def __init__(self, task: Task, send: Callable[[Mapping[str, object]], None]) -> None:
        self._send = send
        self._sent: dict[str, object] = {}
        self._told = Stops()
        self.job: Job[None] = Job(_nothing, id=task.id, kind=task.kind, publish=lambda job, event: self.report())
        self.job.progress.warnings = task.warnings
        self.job.begin("", task.last_steps)
        self._sent = self._state()

    def tell(self, stops: Stops) -> None:
        """Stop as :meth:`Mirror.news` says; on any thread."""
        job, before = self.job, self._told
        self._told = stops
        if stops.cancel:
            job.request_cancel()
        if stops.interrupt:
            job.progress.interrupted = True
        if stops.stopping:
            job.progress.stopping_generation = True
        if stops.skips > before.skips:
            job.progress.skipped = True
        if stops.watched > before.watched:
            job.watch()

    def report(self) -> None:
        """Send what has changed."""
        now = self._state()
        changes = {name: value for name, value in now.items() if value is not self._sent.get(name)}
        self._sent = now
        if changes.get("interrupted") and self._told.interrupt:
            del changes["interrupted"]
        if not changes.get("interrupted", True):
            del changes["interrupted"]
        if "skipped" in changes and not changes.pop("skipped"):
            changes["batch_begun"] = True
        if changes:
            self._send(changes)

    def _state(self) -> dict[str, object]:
        state = self.job.progress
        return {name: getattr(state, name) for name in (*_FIELDS, "skipped", "interrupted")}


def _nothing(job: JobControl) -> None:
    """Work of a job that is only a control."""


# --- pickling --------------------------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Sends registered objects, which may refer to the server, by their names."""

    def __init__(self, file: io.BytesIO, services: Services) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = {
            id(item): (kind, name) for kind in _BY_NAME for name, item in getattr(services.registry, kind).items()
        }
        self._names[id(services)] = ("services", "")

    def persistent_id(self, obj: object) -> tuple[str, str] | None:
        return self._names.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, services: Services) -> None:
        super().__init__(file)
        self._services = services

    def persistent_load(self, pid: tuple[str, str]) -> object:
        kind, name = pid
        return self._services if kind == "services" else getattr(self._services.registry, kind).require(name)


def pack(work: PortableWork[Any]) -> bytes:
    """The function and the arguments of ``work``, to be sent.

    :raises TypeError: an argument cannot be pickled.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, work.services).dump((work.function, work.arguments))
    except (pickle.PicklingError, AttributeError) as error:
        raise TypeError(f"an argument of {work.function.__name__} cannot be sent: {error}") from error
    return file.getvalue()


def unpack(data: bytes, services: Services) -> PortableWork[object]:
    """The work of :func:`pack`, with other services of the same settings."""
    function, arguments = _Unpickler(io.BytesIO(data), services).load()
    return PortableWork(function=function, arguments=arguments, services=services)


def pack_error(error: BaseException) -> bytes:
    """``error`` without its traceback and causes; what cannot be pickled becomes text."""
    kind, given = type(error), {key: value for key, value in error.__dict__.items() if not key.startswith("__")}
    try:
        data = pickle.dumps((kind, error.args, given))
        unpack_error(data)
    except Exception:
        return pickle.dumps((LatentdError, (f"{kind.__name__}: {error}",), {"detail": str(error), "hint": None}))
    return data


def unpack_error(data: bytes) -> BaseException:
    """The exception of :func:`pack_error`."""
    kind, arguments, given = pickle.loads(data)
    error: BaseException = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(given)
    return error
