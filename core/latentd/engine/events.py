"""Events of jobs, passed from the worker to any number of listeners on event loops through bounded buffers."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from latentd.errors import QueueFull
from latentd.types import JsonValue

#: Names of the last event of a job.
FINAL = frozenset(("completed", "failed", "cancelled"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A change of a job: queued, started, progress, completed, failed or cancelled."""

    job_id: str
    name: str
    data: Mapping[str, JsonValue]


class Subscription:
    """Events of one job, or of all, for one listener on one event loop: a context manager and async iterator.

    A progress event replaces an unread one of the same job. If more than ``size`` events are unread, the oldest are
    dropped and counted in ``dropped``, so that a slow listener only misses events. ``ended`` is true when nothing more
    will come.
    """

    def __init__(self, bus: EventBus, job_id: str | None, size: int) -> None:
        self.job_id = job_id
        self.dropped = 0
        self.ended = False
        self._bus = bus
        self._size = size
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.remove(self)

    def put(self, event: Event) -> None:
        """Add an event; from any thread."""
        with self._lock:
            last = self._events[-1] if self._events else None
            if last is not None and last.name == event.name == "progress" and last.job_id == event.job_id:
                self._events[-1] = event
                return
            self._events.append(event)
            if len(self._events) > self._size:
                self._events.popleft()
                self.dropped += 1
        self._wake()

    def end(self) -> None:
        """Tell the listener that nothing more will come; from any thread. What is unread can still be read."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the listener's loop is closed
            self._bus.remove(self)

    async def get(self, timeout: float | None = None) -> Event | None:
        """The next event, or None if there is none within ``timeout`` seconds or none will come."""
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self.ended:
                    return None
                self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), timeout)
            except TimeoutError:
                return None


class EventBus:
    """The listeners of events. ``publish`` may be called on any thread and never blocks."""

    def __init__(self, *, buffer: int = 64, limit: int = 256) -> None:
        self._buffer = buffer
        self.limit = limit
        self._subscriptions: tuple[Subscription, ...] = ()
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, job_id: str | None = None) -> Subscription:
        """A subscription to one job, or to all; to be created, read and closed on the same event loop.

        :raises QueueFull: there are too many subscriptions.
        """
        subscription = Subscription(self, job_id, self._buffer)
        with self._lock:
            if len(self._subscriptions) >= self.limit:
                raise QueueFull("too many event streams are open", retry_after=5)
            self._subscriptions = (*self._subscriptions, subscription)
            subscription.ended = self._closed and job_id is None
        return subscription

    def close(self) -> None:
        """End the subscriptions to all jobs, which have no last event: no job will run any more."""
        with self._lock:
            self._closed = True
            endless = [subscription for subscription in self._subscriptions if subscription.job_id is None]
        for subscription in endless:
            subscription.end()

    def remove(self, subscription: Subscription) -> None:
        """Remove ``subscription``."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

    def listens(self, job_id: str) -> bool:
        """Whether there is a subscription to this job."""
        return any(s.job_id in (None, job_id) for s in self._subscriptions)

    def publish(self, event: Event) -> None:
        """Pass ``event`` to the subscriptions to its job."""
        for subscription in self._subscriptions:
            if subscription.job_id in (None, event.job_id):
                subscription.put(event)
