"""What plugins see of the queue: jobs, their events, and the order in which they wait.

These are protocols, which can be imported without torch. The classes that implement them are in ``engine``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.types import ProgressState

T_co = TypeVar("T_co", covariant=True)


class WorkJob(Protocol[T_co]):
    """A job in the queue: a generation, or a plugin's own from :meth:`Services.submit_work`."""

    @property
    def id(self) -> str:
        """What the client, or else the engine, calls it."""

    @property
    def kind(self) -> str:
        """``txt2img``, ``img2img``, ``extras``, or what a plugin calls its work."""

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``completed``, ``failed`` or ``cancelled``."""

    @property
    def position(self) -> int:
        """1 for the job that is next in the queue, and so on; 0 when it does not wait."""

    @property
    def created(self) -> float:
        """When it was handed in, Unix time in seconds."""

    @property
    def started(self) -> float | None:
        """When it began to run, or None."""

    @property
    def finished(self) -> float | None:
        """When it ended, or None."""

    @property
    def meta(self) -> Mapping[str, JsonValue]:
        """What is shown with the job: of a generation ``width``, ``height``, ``steps`` and ``images``."""

    @property
    def progress(self) -> ProgressState:
        """What the worker reports, preview and warnings included."""

    @property
    def error(self) -> BaseException | None:
        """What the work raised."""

    @property
    def expired(self) -> bool:
        """Whether its result is kept no longer."""

    def watch(self) -> None:
        """Ask for previews, costly ones too, for the next 15 seconds."""

    def outcome(self) -> T_co:
        """What its work returned.

        :raises Gone: that is kept no longer. :raises Conflict: the job has not ended, or was cancelled.
        :raises Exception: what the work raised.
        """

    async def wait(self) -> T_co:
        """What its work returned, once it has; it is kept for the first call, however soon results expire.

        :raises JobCancelled: it was cancelled. :raises Exception: what the work raised.
        """


class JobEvent(Protocol):
    """A change of a job."""

    @property
    def job_id(self) -> str:
        """Which job."""

    @property
    def name(self) -> str:
        """``queued``, ``started``, ``progress``, ``completed``, ``failed`` or ``cancelled``."""

    @property
    def data(self) -> Mapping[str, JsonValue]:
        """The job's document in the jobs API."""


class JobEvents(Protocol):
    """The events of one job, or of all; a slow listener misses some, but never the last of one job."""

    def __enter__(self) -> JobEvents: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def get(self, timeout: float | None = None) -> JobEvent | None:
        """The next event, or None if there is none within ``timeout`` seconds."""


class Queue(Protocol):
    """The queue with every job that is known: waiting, running, ended. Every method may be called on any thread."""

    @property
    def paused(self) -> bool:
        """Whether waiting jobs are kept waiting."""

    def pause(self) -> None:
        """Start no further job until :meth:`resume`; running ones go on."""

    def resume(self) -> None:
        """Start waiting jobs again."""

    def jobs(self) -> Sequence[tuple[WorkJob[object], int]]:
        """Every known job, oldest first, with its position (0 unless queued)."""

    def get(self, job_id: str) -> WorkJob[object]:
        """The job with this id.

        :raises NotFound: there is none, or it is no longer remembered.
        """

    def cancel(self, job_id: str) -> WorkJob[object]:
        """Cancel a waiting job at once, a running one at its next check; an ended one is not changed.

        :raises NotFound: no such job.
        """

    def forget(self, job_id: str) -> None:
        """Drop an ended job with its result.

        :raises NotFound: no such job. :raises Conflict: it has not ended.
        """

    def promote(self, job_id: str, place: int) -> None:
        """Move a waiting job to ``place`` of the queue, 1 for the next; beyond the end means last.

        :raises NotFound: no such job. :raises Conflict: it does not wait.
        """

    def subscribe(self, job_id: str | None = None) -> JobEvents:
        """Events of one job or of all; to be called on the event loop that reads them.

        :raises QueueFull: there are too many subscriptions.
        """
