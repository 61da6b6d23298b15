"""The server's open connections: how many there may be, and how long the server waits for each.

A connection costs a file descriptor even if its client sends nothing. A connection that has sent no whole request is
closed after a time, or earlier when its place is needed: a client that sends a request is served however many others
are silent.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse
from latentd.types import JsonValue

log = logging.getLogger("latentd.connections")

SLOWEST = 1024
"""Bytes a second; a body that arrives, or a reply that is read, more slowly is given up after its timeout."""
SWEEP_SECONDS = 1.0
"""Shortest interval between two checks of all connections."""


class Connections:
    """The open connections; those that wait for their client are ordered by when the wait began.

    All methods have to be called on the event loop.

    :param limit: the most that may be open.
    :param request_timeout: seconds in which the head of a request has to arrive, and each further part of its body.
    :param reply_timeout: seconds in which a client has to read some of a reply.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        limit: int,
        request_timeout: float,
        reply_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.request_timeout = request_timeout
        self.reply_timeout = reply_timeout
        self.clock = clock
        self._open: set[TimedProtocol] = set()
        # First those without a whole head (silent, between requests, within a head); then those within a body.
        self._quiet: dict[TimedProtocol, None] = {}
        self._sending: dict[TimedProtocol, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def sweep_seconds(self) -> float:
        """The interval at which to call :meth:`sweep`."""
        return min(SWEEP_SECONDS, self.request_timeout / 4, self.reply_timeout / 4)

    def admit(self) -> bool:
        """Whether one more may be opened; if all are taken, the longest waiting one is closed."""
        return len(self._open) < self.limit or self.evict()

    def evict(self) -> bool:
        """Close the connection that has waited longest for its client; False if none waits."""
        waiting = self._quiet or self._sending
        if not waiting:
            return False
        log.warning("%d connections are open: those that say nothing are closed for new ones", len(self._open))
        longest = next(iter(waiting))
        self.closed(longest)
        longest.drop()
        return True

    def opened(self, connection: TimedProtocol) -> None:
        """Add ``connection``, which has been accepted."""
        self._open.add(connection)
        self._quiet[connection] = None

    def closed(self, connection: TimedProtocol) -> None:
        """Remove ``connection``, which has been closed; a second call does nothing."""
        self._open.discard(connection)
        self._quiet.pop(connection, None)
        self._sending.pop(connection, None)

    def moved(self, connection: TimedProtocol, phase: str | None) -> None:
        """Note the new phase of ``connection``: see :meth:`TimedProtocol.phase`."""
        if connection not in self._open:
            return
        self._quiet.pop(connection, None)
        self._sending.pop(connection, None)
        if phase == "body":
            self._sending[connection] = None
        elif phase is not None:
            self._quiet[connection] = None

    def sweep(self) -> None:
        """Close the connections whose clients have been too slow."""
        now = self.clock()
        for connection in list(self._open):
            connection.check(now)


class TimedProtocol(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, which reports its phase to ``connections`` and drops slow clients.

    h11 limits the head of a request to 64 KiB.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, JsonValue], connections: Connections
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.opening: asyncio.Task[None] | None = None
        self._connections = connections
        self._is_made = False
        self._phase: str | None = "head"
        self._since = self._heard = connections.clock()
        self._received = 0
        self._unread: tuple[int, float] | None = None

    def phase(self) -> str | None:
        """What the server waits for: ``head``, ``body``, or ``idle`` (a next request, if any); None while it works.

        A connection that has sent nothing yet is in phase ``head``.
        """
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return "body"
        if state is not h11.IDLE:
            return None
        return "idle" if self.cycle is not None and not self.conn.trailing_data[0] else "head"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection."""
        super().connection_made(transport)
        self._is_made = True

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client, and note what is expected of it next."""
        now = self._connections.clock()
        if self._phase in (None, "idle"):
            self._since, self._received = now, 0
        self._heard = now
        self._received += len(data)
        super().data_received(data)
        self._note_phase()

    def on_response_complete(self) -> None:
        """Note what is expected of the client after a reply."""
        super().on_response_complete()
        self._note_phase()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the open ones."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._connections.closed(self)

    def _note_phase(self) -> None:
        phase = self.phase()
        if phase == self._phase:
            return
        if self._phase is None:
            self._since, self._received = self._connections.clock(), 0
        self._phase = phase
        self._connections.moved(self, phase)

    def check(self, now: float) -> None:
        """Close the connection if its client has sent or read nothing for too long."""
        if not self._is_made or (self.transport.is_closing() and not self.transport.get_write_buffer_size()):
            return
        if self._is_unread(now):
            log.info("a client that did not read its reply for %g s was dropped", self._connections.reply_timeout)
            self.drop()
        elif self._is_late(now) and not self.transport.is_closing():
            log.info("a client that sent no whole request for %g s was dropped", self._connections.request_timeout)
            self._give_up()

    def _is_late(self, now: float) -> bool:
        timeout = self._connections.request_timeout
        if self._phase == "head":
            return now - self._since > timeout
        if self._phase != "body":
            return False
        if self.flow.read_paused:  # the application is slow, not the client
            self._since, self._heard, self._received = now, now, 0
            return False
        return now - self._heard > timeout or now - self._since > timeout + self._received / SLOWEST

    def _is_unread(self, now: float) -> bool:
        if self.transport.get_write_buffer_size() == 0:
            self._unread = None
            return False
        size, timeout = _unread_bytes(self.transport), self._connections.reply_timeout
        if self._unread is None:
            self._unread = size, now
        elif now - self._unread[1] > timeout:
            if size > self._unread[0] - SLOWEST * timeout:
                return True
            self._unread = size, now
        return False

    def _give_up(self) -> None:
        """Close the connection; answer 408 before, if part of a request has come and no part of an answer is sent."""
        if self._received and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"no whole request came within {self._connections.request_timeout:g} s"
            body = SafeJSONResponse(error_body("HTTPException", text, hint="see --timeout-request"), 408)
            head = h11.Response(
                status_code=408, headers=[*body.raw_headers, (b"connection", b"close")], reason=b"Request Timeout"
            )
            for event in (head, h11.Data(data=bytes(body.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def drop(self) -> None:
        """Close at once and discard what has not been sent."""
        if self._is_made:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()


def _unread_bytes(transport: asyncio.Transport) -> int:
    """Bytes that wait for the client in ``transport`` and, where the system reports them, in the socket's buffer.

    The transport's count alone is too coarse: the system takes bytes from it in steps of a third of its buffer, which
    may be a megabyte, so that a slow client would look like one that does not read.
    """
    size = transport.get_write_buffer_size()
    if sys.platform == "linux":
        import fcntl
        import termios

        sent = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            size += int.from_bytes(fcntl.ioctl(sent.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return size
