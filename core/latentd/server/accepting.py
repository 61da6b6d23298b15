"""Accepting connections: never more than the limit, and with one log line when the system has no descriptors left."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress

from latentd.server.connections import Connections, TimedProtocol
from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse

log = logging.getLogger("latentd.connections")

PAUSE_SECONDS = 0.5
"""How long nothing is accepted after the system had no descriptor for a connection."""
RESERVED = 256
"""Descriptors that are kept for files, plugins and connections that are being refused."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s"
)
_BUSY_BODY = SafeJSONResponse(error_body("HTTPException", "too many connections", hint="--max-connections")).body


class Acceptor:
    """Accepts connections on one listening socket.

    It replaces asyncio's own server, which tries, fails and logs 2,048 times a second when descriptors run out.

    :param make_protocol: a protocol for a connection that has been accepted.
    :param tls: context for TLS; None for plain HTTP.
    """

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        make_protocol: Callable[[], TimedProtocol],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._make_protocol = make_protocol
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None]

    def start(self) -> None:
        """Accept from now on; call on the event loop."""
        self._listener.setblocking(False)
        self._accepting = self._spawn(self._accept())
        self._spawn(self._sweep())

    def close(self) -> None:
        """Stop accepting. Open connections are still checked."""
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        """Stop checking the open connections, too."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                if self._listener.fileno() < 0:
                    return
                log.warning("no connection can be accepted: %s", error)
                if error.errno in _NO_ROOM:
                    self._connections.evict()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._connections.admit():
                self._take(accepted)
            else:
                self._refuse(accepted)
            # A flood of new connections must leave the event loop time for the open ones.
            await asyncio.sleep(0)

    def _take(self, accepted: socket.socket) -> None:
        connection = self._make_protocol()
        self._connections.opened(connection)
        connection.opening = self._spawn(self._open(connection, accepted))

    async def _open(self, connection: TimedProtocol, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        patience = None if self._tls is None else self._connections.request_timeout
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._tls, ssl_handshake_timeout=patience
            )
        except (OSError, asyncio.CancelledError) as error:  # no TLS, or not in time
            log.debug("a connection was not opened: %r", error)
            self._connections.closed(connection)
            accepted.close()

    def _refuse(self, accepted: socket.socket) -> None:
        log.warning("%d connections are open and all at work: a further one is refused", len(self._connections))
        with accepted, suppress(OSError):
            if self._tls is None:
                accepted.setblocking(False)
                accepted.send(_BUSY % (len(_BUSY_BODY), _BUSY_BODY))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._connections.sweep_seconds)
            self._connections.sweep()


def connection_limit(wanted: int) -> int:
    """How many connections there may be: ``wanted``, or fewer where the system gives fewer descriptors.

    The soft limit of descriptors, which is often 1,024, is raised as far as needed and allowed.

    :raises ValueError: ``wanted`` is below 1.
    """
    if wanted < 1:
        raise ValueError("--max-connections must be at least 1")
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    limit = max(soft - min(RESERVED, soft // 2), 1)
    log.warning("file descriptors suffice for %d connections, not for --max-connections %d", limit, wanted)
    return limit
