"""Clients that go away: in the middle of a request, of an answer, of an event stream."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.reference_server import ReferenceServer, listening

SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}
LONG = {"prompt": "a red circle", "steps": 150, "width": 64, "height": 64, "batch_size": 4}


@pytest.fixture(scope="module")
def plain(reference_server: ReferenceServer) -> ReferenceServer:
    """The server that other tests ask as well: it must stay fit for them."""
    return reference_server


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    data = tmp_path_factory.mktemp("vanishing")
    with listening(data, "--cancel-on-disconnect") as url:
        yield ReferenceServer(url, data)


@pytest.fixture(scope="module", params=["plain", "cancelling"])
def server(request: pytest.FixtureRequest) -> ReferenceServer:
    found: ReferenceServer = request.getfixturevalue(request.param)
    return found


def connection(server: ReferenceServer) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def message(path: str, body: object, *, length: int | None = None) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data


def reset(client: socket.socket) -> None:
    """Close so that the other side hears of it by an error."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def check_serves(server: ReferenceServer) -> None:
    assert server.call("GET", "/livez", timeout=5)[0] == 200
    status, reply = server.call("POST", "/sdapi/v1/txt2img", SMALL, timeout=120)
    assert status == 200, reply


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", ["line", "body", "whole", pytest.param("drawing", marks=pytest.mark.slow)])
def test_a_client_that_goes_away_is_no_loss_to_the_next(server: ReferenceServer, part: str, how: str) -> None:
    whole = message("/sdapi/v1/txt2img", LONG if part == "drawing" else SMALL)
    sent = {"line": whole[:20], "body": message("/sdapi/v1/txt2img", SMALL, length=5000)}.get(part, whole)
    for _ in range(2 if part == "drawing" else 8):
        client = connection(server)
        client.sendall(sent)
        if part == "drawing":
            time.sleep(0.2)
        reset(client) if how == "reset" else client.close()
    server.call("POST", "/sdapi/v1/interrupt", {}, timeout=20)
    check_serves(server)


def test_jobs_of_clients_that_went_away_leave_the_queue(server: ReferenceServer) -> None:
    for _ in range(4):
        client = connection(server)
        client.sendall(message("/sdapi/v1/txt2img", SMALL))
        reset(client)
    check_serves(server)
    deadline = time.monotonic() + 60
    while server.call("GET", "/sdapi/v1/progress")[1]["state"]["job_count"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read_until(client: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        piece = client.recv(4096)
        assert piece, got
        got += piece
    return got


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_away_in_the_middle_of_its_answer_is_no_loss_to_the_next(
    server: ReferenceServer, how: str
) -> None:
    for _ in range(4):
        client = connection(server)
        client.sendall(message("/sdapi/v1/txt2img", SMALL))
        assert read_until(client, b"HTTP/1.1 200")
        reset(client) if how == "reset" else client.close()
    check_serves(server)


def test_event_streams_whose_clients_went_away_make_room(server: ReferenceServer) -> None:
    """At most 256 may be open: all the more are opened here, one after another."""
    jobs = [server.call("POST", "/latentd/v1/jobs", {**LONG, "steps": 1000})[1]["id"] for _ in range(3)]
    for number in range(260):
        client = connection(server)
        client.sendall(f"GET /latentd/v1/jobs/{jobs[-1]}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = read_until(client, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (number, head)
        reset(client) if number % 2 else client.close()
    for job in jobs:
        assert server.call("POST", f"/latentd/v1/jobs/{job}/cancel", {})[0] == 200
    check_serves(server)
