"""A place whose jobs run on a far side: another process, or an actor on another machine. It is made anew if it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar, cast

from latentd.engine.far import (
    FarLink,
    FarNews,
    LinkLost,
    Memory,
    Mirror,
    ModelNews,
    Outcome,
    Progress,
    Ready,
    Task,
    Unable,
    pack,
    unpack_error,
)
from latentd.errors import DeviceLost, LatentdError, OutOfMemory
from latentd.executors import DeviceTrouble, ExecutorJob, Home, PortableWork
from latentd.types import JobControl

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between looks at whether a job is to stop; news of the far side are heard at once.
POLL = 0.02
#: Seconds for which a far side may take to start: it imports torch.
START = 300.0
#: After so many far sides in a row that ended before they completed a job, no further one is started.
DEATHS = 3


class FarRunner:
    """Implements :class:`latentd.executors.Runner` by a far side. Work that is not portable runs in this process.

    :param name: name of the place.
    :param connect: starts a far side and returns the way to it without waiting.
    :param here: called on this runner's thread before the first work that cannot be sent.
    :param start: seconds for which a far side may take until it can work.
    :param retry: whether a job whose far side ended is tried once elsewhere. It may have been the job that ended it.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], FarLink],
        *,
        here: Callable[[], None] | None = None,
        start: float = START,
        retry: bool = False,
    ) -> None:
        self.name = name
        self._open = connect
        self._here = here
        self._start = start
        self._retry = retry
        self._link: FarLink | None = None
        self._ready = False
        self._deaths = 0
        self._lost: str | None = None
        self._begun = False
        self._supplies = 0
        self._closed = False
        self._memory: Memory | None = None
        self._home = Home()

    @property
    def ready(self) -> bool:
        """Whether there is a far side that can work."""
        return self._ready

    def prepare(self) -> None:
        """Start the far side and wait until it can work, unless it can already.

        :raises DeviceTrouble: it cannot.
        """
        if self._ready:
            return
        try:
            self._connect()
        except LatentdError as error:
            raise DeviceTrouble(error.detail, lasting=True) from error

    def run(self, job: ExecutorJob[T], work: Callable[[JobControl], T]) -> T:
        """The result of ``work``, from the far side where it is portable.

        :raises DeviceLost: the far side ended.
        """
        if isinstance(work, PortableWork):
            portable: PortableWork[T] = work
            self._begun = False
            link = self._live_link()
            return portable.carry(job, lambda: self._far(link, job, portable))
        here, self._here = self._here, None
        if here is not None:
            here()
        return work(job)

    def _far(self, link: FarLink, job: ExecutorJob[T], work: PortableWork[T]) -> T:
        self._home = work.home
        try:
            self._supplies += link.supply(work.files, job)
            link.send(self._task(job, work))
            self._begun = True
            outcome = self._await(link, Mirror(job))
        except LinkLost as lost:
            raise self._ended(f"{lost} {'while it worked on' if self._begun else 'before it had'} this job") from lost
        self._memory = outcome.memory
        self._home.learn(outcome.hashes)
        self._home.on_precision(self.name, outcome.precision)
        self._home.on_cache(self.name, outcome.cache)
        if outcome.error is None:
            self._deaths = 0
            return cast("T", outcome.result)
        failure = unpack_error(outcome.error)
        if outcome.lost:
            self._lost = str(failure)
            self._drop()
        if not isinstance(failure, LatentdError):
            log.error("on the far side of %s: %s", self.name, outcome.trace)
        raise failure

    def _task(self, job: ExecutorJob[T], work: PortableWork[T]) -> Task:
        return Task(
            id=job.id,
            kind=job.kind,
            work=pack(work),
            options=dict(work.home.options()),
            scans=work.home.scans() + self._supplies,
            warnings=job.progress.warnings,
            last_steps=job.progress.sampling_steps,
        )

    def _await(self, link: FarLink, mirror: Mirror) -> Outcome:
        while True:
            news = link.receive(POLL)
            if isinstance(news, Outcome):
                return news
            if isinstance(news, Progress):
                mirror.show(news.changes)
            else:
                self._heed(news)
            if (stops := mirror.news()) is not None:
                link.send(stops)

    def _heed(self, news: FarNews | None) -> None:
        if isinstance(news, ModelNews):
            self._home.on_model(news.kind, news.event)

    # --- the far side ------------------------------------------------------------------------------------------------

    def _live_link(self) -> FarLink:
        """The way to the far side, which has been heard before.

        :raises DeviceLost: it has ended since.
        """
        link = self._link
        if link is None:
            raise DeviceLost(f"{self._deaths} starts of {self.name} in a row failed", hint="look into the log")
        try:
            while (news := link.receive(0.0)) is not None:
                self._heed(news)
        except LinkLost as lost:
            error = self._ended(f"{lost} while it had nothing to do")
            log.warning("%s: %s", self.name, error)
            raise error from lost
        self._lost = None
        return link

    def _connect(self) -> None:
        """Start a far side and wait until it can work.

        :raises LatentdError: it cannot.
        """
        self._ready = False
        until = time.monotonic() + self._start
        try:
            link = self._link = self._open()
            while not self._ready:
                if self._closed:
                    raise LinkLost("the server is shutting down")
                if time.monotonic() > until:
                    raise LinkLost(f"it could not work within {self._start:.0f} s")
                news = link.receive(POLL)
                if isinstance(news, Unable):
                    failure = unpack_error(news.error)
                    raise failure if isinstance(failure, LatentdError) else DeviceLost(str(failure))
                if isinstance(news, Ready):
                    self._memory = news.memory
                    self._ready = True
        except LinkLost as lost:
            raise self._ended(str(lost)) from lost
        except LatentdError:
            self._deaths += 1
            self._drop()
            raise

    def _ended(self, how: str) -> DeviceLost:
        """What is to be said of the far side that has ended; it is forgotten."""
        self._deaths += 1
        self._drop()
        return DeviceLost(how, hint="it is started again; no other job is lost")

    def diagnose(self, error: BaseException) -> DeviceTrouble | None:
        """Whether memory ran out, the device was lost, or far sides end one after another."""
        if isinstance(error, OutOfMemory):
            return DeviceTrouble(str(error), lasting=False)
        if self._lost is not None:
            return DeviceTrouble(self._lost, lasting=False)
        if self._ready or not isinstance(error, DeviceLost):
            return None
        lasting, retry = self._deaths >= DEATHS, self._retry or not self._begun
        if not lasting and not retry:
            return None
        reason = f"{self._deaths} in a row ended before they completed a job: {error}" if lasting else str(error)
        return DeviceTrouble(reason, lasting=lasting, retry=retry, begun=self._begun)

    def tidy(self) -> None:
        """Start a far side if it has ended; until it can work, other places take the jobs."""
        while not self._ready and not self._closed and self._deaths < DEATHS:
            try:
                self._connect()
            except LatentdError as error:
                log.error("%s: %s", self.name, error)

    def close(self) -> None:
        """End the far side, also in mid-job."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        self._ready = False
        link, self._link = self._link, None
        self._home.on_precision(self.name, ())
        self._home.on_cache(self.name, None)
        if link is not None:
            link.end()

    def memory(self) -> Memory | None:
        """The far side's bytes after its last job."""
        return self._memory
