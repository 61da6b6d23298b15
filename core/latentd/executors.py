"""The contract of executors: what queues and runs the server's jobs, the places where they run, and work that travels.

An executor of a plugin's comes in by the hook ``create_executor``. ``latentd.testing.check_executor`` holds any to this
contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from latentd.job_services import JobEvents, Queue, WorkJob
from latentd.model_services import CacheReport
from latentd.types import JobControl, JsonValue, ProgressState

if TYPE_CHECKING:
    from latentd.services import Services

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

JobObserver = Callable[[str, str, Mapping[str, JsonValue]], None]
"""Called with a job's id, the event and the job's document, on the thread where it happens."""

PlaceState = Literal["starting", "idle", "busy", "drained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where jobs run: a device, a process, an actor.

    :ivar name: ``cuda:0``; what a job's ``device`` says.
    :ivar state: ``drained`` places take no jobs any more; ``trouble`` says why.
    :ivar loaded: the ``model_key`` of the models that it has in memory, the last used first.
    :ivar memory: its bytes in the shape of ``/sdapi/v1/memory`` if it is not this process's.
    """

    name: str
    state: PlaceState
    trouble: str | None = None
    loaded: tuple[str, ...] = ()
    memory: Mapping[str, Mapping[str, JsonValue]] | None = None


class ExecutorJob(JobControl, WorkJob[T_co], Protocol[T_co]):
    """A job of an executor's. Everything but ``JobControl``'s methods may be used on any thread."""

    id: str
    progress: ProgressState

    @property
    def device(self) -> str | None:
        """The name of the place where it runs or ran; None before."""

    @property
    def ended(self) -> bool:
        """Whether it is completed, failed or cancelled."""

    @property
    def result(self) -> T_co | None:
        """The result while it is kept; None before the end and if there is none."""

    @property
    def watched(self) -> bool:
        """Whether a client has asked for a preview recently."""

    def interrupt(self) -> None:
        """Stop it at its next denoiser call if it runs; it returns what it has."""

    def join(self, timeout: float | None = None) -> T_co:
        """Block this thread until the job has ended; returns ``outcome()``.

        :raises TimeoutError: ``timeout`` seconds went by.
        """


class ExecutorEvents(JobEvents, Protocol):
    """The events of a subscription."""

    def __enter__(self) -> ExecutorEvents: ...

    @property
    def dropped(self) -> int:
        """How many the listener has missed because it was too slow."""

    @property
    def ended(self) -> bool:
        """Whether none will come any more, because the executor is closed."""


@runtime_checkable
class Executor(Queue, Protocol):
    """What queues and runs the server's jobs. Every method may be called on any thread."""

    def observe(self, observer: JobObserver) -> None:
        """Call ``observer`` for every event of every job from now on; its exceptions are logged and harm no job.

        The server calls this once, before the first job.
        """

    def submit(
        self,
        work: Callable[[JobControl], T],
        *,
        kind: str,
        task_id: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        model_key: str | None = None,
        quiet: bool = False,
        share: Any = None,  # the core's own
        awaited: bool = False,
        device: str | None = None,
    ) -> ExecutorJob[T]:
        """Queue a job that will run ``work(job)``.

        Work that is a :class:`PortableWork` may be carried out in another process or on another machine. Any other
        refers to objects of this process and must be called here.

        :param kind: ``txt2img``, ``img2img``, ``extras``, ``interrogate``...; part of the id and of the global state.
        :param task_id: the client's own id; None or empty for a new one.
        :param meta: values ready for JSON that are shown with the job.
        :param model_key: the model that the work needs; jobs whose model is loaded may run first, within a bound.
        :param quiet: whether the job is left out of the global state and not stopped by interrupt and skip.
        :param share: how the job can run together with others; an executor that runs each by itself ignores it.
        :param awaited: whether the caller waits at once; it then gets the result, even if that expires before.
        :param device: the name of the one place where it may run; None for any.
        :raises Conflict: ``task_id`` is waiting or running.
        :raises QueueFull: the queue is at its bound.
        :raises LatentdError: with status 503: the executor is closing, or no place is left.
        """

    def get(self, job_id: str) -> ExecutorJob[object]:
        """The job with this id.

        :raises NotFound: there is none, or it is no longer remembered.
        """

    def jobs(self) -> Sequence[tuple[ExecutorJob[object], int]]:
        """Every known job, oldest first, with its place in the queue (0 unless queued)."""

    def pending(self) -> list[str]:
        """Ids of the waiting jobs, next first."""

    def finished(self) -> list[str]:
        """Ids of the last 16 jobs that ended, oldest first."""

    def current(self) -> ExecutorJob[object] | None:
        """The running job that started last, quiet ones left out; None if there is none."""

    def state(self) -> ProgressState:
        """AUTOMATIC1111's global state: that of :meth:`current`, or what remains of the last job's."""

    def subscribe(self, job_id: str | None = None) -> ExecutorEvents:
        """Events of one job or of all; to be called on the event loop that reads them.

        :raises QueueFull: there are too many subscriptions.
        """

    def interrupt(self) -> None:
        """Stop every running job at its next denoiser call; it returns what it has."""

    def skip(self) -> None:
        """End the present batch of every running job."""

    def cancel(self, job_id: str) -> ExecutorJob[object]:
        """Cancel a waiting job at once, a running one at its next check; an ended one is not changed.

        :raises NotFound: no such job.
        """

    def places(self) -> Sequence[Place]:
        """Where jobs run, those included that take none any more."""

    def close(self, timeout: float = 10.0) -> bool:
        """Refuse new jobs, cancel waiting ones, interrupt running ones; whether all end within ``timeout`` seconds.

        May be called again.
        """


class DeviceTrouble(Exception):
    """What a :class:`Runner` finds about a job's error: the place failed, not the work.

    :param lasting: whether the place is lost, so that it takes no jobs any more. Otherwise it is only if it fails
        repeatedly with jobs that then succeed elsewhere.
    :param retry: whether the job is tried once on another place, if there is one.
    :param begun: whether the job had begun; if not, it waits again as before, for this place or another.
    """

    def __init__(self, reason: str, *, lasting: bool, retry: bool = True, begun: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.retry = retry
        self.begun = begun


class Runner(Protocol):
    """One place of a :class:`latentd.api.QueueExecutor`, which calls it on one thread of its own."""

    @property
    def name(self) -> str:
        """What a job's ``device`` says; unique in the executor."""

    @property
    def ready(self) -> bool:
        """Whether it can begin a job at once; on any thread. While it cannot, no job is left to it by other places.

        The models that it had in memory are taken to be gone when it could not.
        """

    def prepare(self) -> None:
        """Called before the first job.

        :raises DeviceTrouble: the place cannot be used.
        """

    def run(self, job: ExecutorJob[T], work: Callable[[JobControl], T]) -> T:
        """The result of ``work(job)``, carried out here or elsewhere; while it runs, ``job`` shows its progress.

        :raises Exception: what the work raised.
        """

    def diagnose(self, error: BaseException) -> DeviceTrouble | None:
        """Whether the place caused the error that :meth:`run` raised; None if the work did."""

    def tidy(self) -> None:
        """Called after each job, when nothing refers to the job's values; the next one begins after it."""

    def close(self) -> None:
        """Called at the end, also on other threads while another method is at work: give up what is held."""

    def memory(self) -> Mapping[str, Mapping[str, JsonValue]] | None:
        """Bytes in the shape of ``/sdapi/v1/memory`` if they are not this process's; on any thread."""


def _unheard(*news: object) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What work elsewhere follows of the server that sends it, and what the server learns from it.

    :ivar options: the present value of every option.
    :ivar scans: how often the server has looked through its folders.
    :ivar learn: takes SHA-256 of checkpoint files, by their paths.
    :ivar on_model: takes a model's kind and file, and ``loaded`` or ``unloaded``.
    :ivar on_precision: takes a place's name and what is loaded there, in the shape of ``/latentd/v1/precision``.
    :ivar on_cache: takes a place's name and what its cache of models holds; None if what worked there has ended.
    """

    options: Callable[[], Mapping[str, JsonValue]] = dict
    scans: Callable[[], int] = int
    learn: Callable[[Mapping[str, str]], None] = _unheard
    on_model: Callable[[str, str], None] = _unheard
    on_precision: Callable[[str, Sequence[JsonValue]], None] = _unheard
    on_cache: Callable[[str, CacheReport | None], None] = _unheard


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededFile:
    """A model file that work reads, as the server has it.

    :ivar kind: the kind of folder, as of :meth:`latentd.api.Paths.models`.
    :ivar name: its path in that folder, with slashes.
    :ivar path: the file, or a folder in diffusers' form, on the server's machine.
    :ivar size: bytes of the file, or of that in the folder whose hash is taken.
    :ivar sha256: in hexadecimal; None with ``--no-hashing``.
    """

    kind: str
    name: str
    path: Path
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a job's work. ``share`` is how much of the whole it is; those of all parts add up to 1."""

    work: PortableWork[Any]
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Division(Generic[T]):
    """How a job's work may be done in parts, each in another place at the same time.

    :ivar most: the greatest number of parts.
    :ivar count: the ``job_count`` that progress shows.
    :ivar cut: called with a number of parts from 2 to ``most``; returns that many parts.
    :ivar join: called with the results of all parts in their order; returns the work whose result is the job's.
    """

    most: int
    count: int
    cut: Callable[[int], Sequence[Part]] = field(repr=False)
    join: Callable[[Sequence[Any]], PortableWork[T]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableWork(Generic[T]):
    """Work that can be carried out in another process: ``function(services, control, *arguments)``.

    :ivar function: found by its module and name where it runs.
    :ivar arguments: can be pickled; models, services and open files cannot.
    :ivar services: those of the server; where the work runs, others of the same settings take their place.
    :ivar first: called in the server's process when the job begins, wherever the work runs.
    :ivar last: called in the server's process with the result.
    :ivar division: how it may be done in parts instead; an executor that does it whole ignores this.
    :ivar home: the server, where the work runs elsewhere.
    :ivar files: the model files that it reads; called only for a machine with folders of its own, and may take long.
    """

    function: Callable[..., T]
    arguments: tuple[object, ...] = ()
    services: Services = field(repr=False)
    first: Callable[[JobControl], None] | None = field(default=None, repr=False)
    last: Callable[[T], None] | None = field(default=None, repr=False)
    division: Division[T] | None = field(default=None, repr=False)
    home: Home = field(default_factory=Home, repr=False)
    files: Callable[[], Sequence[NeededFile]] = field(default=tuple, repr=False)

    def __call__(self, control: JobControl) -> T:
        """Carry it out here."""
        return self.carry(control, lambda: self.function(self.services, control, *self.arguments))

    def carry(self, control: JobControl, run: Callable[[], T]) -> T:
        """Have ``run`` call the function, wherever that is; returns its result."""
        if self.first is not None:
            self.first(control)
        result = run()
        if self.last is not None:
            self.last(result)
        return result
