"""Clients that are silent, slow or many: their connections are closed by time, and those who speak are served."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from latentd.server.accepting import Acceptor
from latentd.server.connections import Connections, TimedProtocol
from latentd.server.log_limit import LogLimit

TIMEOUT = 0.4
PATIENCE = 10.0
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
LARGE = 32 << 20


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and says how long it was; ``/large`` gives 32 MiB, ``/late`` waits for longer than clients may."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    if scope["path"] == "/late":
        await asyncio.sleep(3 * TIMEOUT)
    body = bytes(LARGE) if scope["path"] == "/large" else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    def __init__(self, limit: int) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=5))
        self.held = Connections(limit=limit, request_timeout=TIMEOUT, reply_timeout=TIMEOUT)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.wrap: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self.wrap()
        acceptor = Acceptor(self.listener, self.held, self._protocol)
        acceptor.start()
        self.servers.append(acceptor)  # type: ignore[arg-type]

    def _protocol(self) -> TimedProtocol:
        return TimedProtocol(self.config, self.server_state, self.lifespan.state, self.held)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), PATIENCE)


@contextmanager
def serving(limit: int = 50, wrap: Callable[[], None] = lambda: None) -> Iterator[Server]:
    server = Server(limit)
    server.wrap = wrap
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        server.listener.close()
        assert not thread.is_alive()
        assert len(server.held) == 0


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def rest_of(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    try:
        while more := client.recv(1 << 16):
            found += more
    except ConnectionResetError:
        pass
    return found


def one_reply(client: socket.socket, body: bytes = b"0") -> bool:
    """Whether a whole reply of ``body`` comes; the connection may stay open."""
    found = b""
    while not found.endswith(b"\r\n\r\n" + body):
        more = client.recv(1 << 16)
        if not more:
            return False
        found += more
    return found.startswith(b"HTTP/1.1 200 ")


def ask(server: Server, path: bytes = b"/") -> bytes:
    with server.connect() as client:
        client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        return rest_of(client)


def test_a_silent_connection_is_closed(server: Server) -> None:
    with server.connect() as client:
        assert rest_of(client) == b""


def test_half_a_head_is_closed_however_it_drips(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        _drip(client, b"X-A: b\r\n")
        assert rest_of(client).startswith(b"HTTP/1.1 408 ")


def test_half_a_head_after_a_request_is_closed(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one_reply(client)
        client.sendall(b"GET / HT")
        assert rest_of(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_stands_still_is_answered_408(server: Server) -> None:
    with server.connect() as client:
        client.sendall(HEAD % 100 + b"{")
        reply = rest_of(client)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"detail":"no whole request came within 0.4 s"' in reply


def test_a_body_that_drips_is_closed(server: Server) -> None:
    with server.connect() as client:
        client.sendall(HEAD % 100_000)
        _drip(client, b"x")
        assert rest_of(client).startswith(b"HTTP/1.1 408 ")


def _drip(client: socket.socket, text: bytes) -> None:
    """Send ``text`` again and again, faster than one timeout and slower than a modem; until it is refused."""
    end = time.monotonic() + PATIENCE
    client.settimeout(TIMEOUT / 4)
    while time.monotonic() < end:
        try:
            client.sendall(text)
            if client.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    client.settimeout(PATIENCE)


def test_a_large_body_may_take_its_time(server: Server) -> None:
    """Beyond the timeout, as long as it keeps coming."""
    with server.connect() as client:
        client.sendall(HEAD % 40_000)
        for _ in range(10):
            client.sendall(b"x" * 4_000)
            time.sleep(TIMEOUT / 4)
        assert one_reply(client, b"40000")


def test_whoever_waits_for_an_answer_is_left_alone(server: Server) -> None:
    assert ask(server, b"/late").startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_keeps_its_own_time(server: Server) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one_reply(client)
            time.sleep(3 * TIMEOUT)


def test_a_client_that_does_not_read_is_dropped(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
        _until(lambda: len(server.held) == 0)
        assert len(rest_of(client)) < LARGE


def test_a_client_that_reads_slowly_gets_everything(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        size, end = 0, time.monotonic() + 4 * TIMEOUT
        while time.monotonic() < end:
            size += len(client.recv(1 << 17))
            time.sleep(TIMEOUT / 40)
        assert size + len(rest_of(client)) > LARGE


def test_silent_connections_make_place_for_those_who_speak() -> None:
    with serving(limit=20) as server, ExitStack() as stack:
        server.held.request_timeout = 60.0
        silent = [stack.enter_context(server.connect()) for _ in range(100)]
        dripping = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in dripping:
            client.sendall(HEAD % 100 + b"{")
        for _ in range(5):
            assert ask(server).startswith(b"HTTP/1.1 200 ")
        assert len(server.held) <= 20
        for client in silent:
            assert rest_of(client) == b""


def test_one_more_than_all_at_work_is_told() -> None:
    with serving(limit=3) as server, ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(server.connect())
            client.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        _until(lambda: not server.held._quiet and len(server.held) == 3)
        with closing(server.connect()) as client:
            reply = rest_of(client)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in reply


def test_without_descriptors_it_waits_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[float] = []

    def without_descriptors() -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def failing(sock: socket.socket) -> tuple[socket.socket, object]:
            tries.append(time.monotonic())
            if len(tries) < 4:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(sock)

        loop.sock_accept = failing  # type: ignore[method-assign, assignment]

    limit = LogLimit()
    logging.getLogger("latentd.connections").addFilter(limit)
    try:
        with serving(wrap=without_descriptors) as server:
            assert ask(server).startswith(b"HTTP/1.1 200 ")
    finally:
        logging.getLogger("latentd.connections").removeFilter(limit)
    assert [r.getMessage() for r in caplog.records if "accepted" in r.message] == [
        "no connection can be accepted: [Errno 24] Too many open files"
    ]
    assert min(after - before for before, after in pairwise(tries[:4])) > 0.4


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_limit_on_log_lines_counts_what_it_leaves_out() -> None:
    now = [0.0]
    limit = LogLimit(every=60, clock=lambda: now[0])

    def line(text: str, *values: object) -> logging.LogRecord | None:
        record = logging.LogRecord("x", logging.WARNING, "", 1, text, values, None)
        return record if limit.filter(record) else None

    assert line("from %s", "a") is not None
    assert line("from %s", "b") is None
    assert line("another") is not None
    now[0] = 61.0
    again = line("from %s", "c")
    assert again is not None
    assert again.getMessage() == "from c (1 more of these before)"
