"""How a server ends while a job runs: its client gets what there is, and the process ends in order."""

from __future__ import annotations

import base64
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.calls import BASE, opened
from tests.reference_server import ReferenceServer
from tools.server_process import ServerProcess, server_process

PATIENCE = 120.0
LONG = {**BASE, "steps": 150, "n_iter": 4}


@dataclass
class Drawing:
    """A server process with a long generation under way; ``answers`` gets (status, body) of its client."""

    process: ServerProcess
    server: ReferenceServer
    answers: list[Any] = field(default_factory=list)


@contextmanager
def drawing(data: Path, *flags: str) -> Iterator[Drawing]:
    flags = ("--data-dir", str(data), "--core-only", *flags)
    with server_process(*flags, environment={"OMP_NUM_THREADS": "1"}) as process:
        running = Drawing(process, ReferenceServer(process.url, data))
        asking = threading.Thread(target=lambda: running.answers.append(ask(running.server)))
        asking.start()
        until(lambda: sampling(running.server))
        yield running
        asking.join(PATIENCE)


def ask(server: ReferenceServer) -> Any:
    try:
        return server.call("POST", "/sdapi/v1/txt2img", LONG)
    except OSError as error:
        return error


def sampling(server: ReferenceServer) -> bool:
    state = server.call("GET", "/sdapi/v1/progress")[1]["state"]
    return bool(state["sampling_step"] > 0 and state["job_count"] > 0)


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def refuses(address: str) -> bool:
    """Whether nobody listens at ``address`` any more."""
    url = urlsplit(address)
    try:
        socket.create_connection((url.hostname, url.port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture(scope="module")
def data(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ending")
    (folder / "models").symlink_to(reference_data / "models")
    return folder


def assert_in_order(running: Drawing) -> None:
    """Status 0, no traceback, and the client has the picture so far."""
    status, log = running.process.ended(PATIENCE)
    until(lambda: running.answers)
    assert (status, "Traceback" in log) == (0, False), log
    code, reply = running.answers[0]
    assert (code, len(reply["images"])) == (200, 1)
    assert opened(base64.b64decode(reply["images"][0])).size == (64, 64)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_client_have_what_there_is(data: Path, number: signal.Signals) -> None:
    with drawing(data) as running:
        running.process.process.send_signal(number)
        assert_in_order(running)


def test_server_stop_does_the_same(data: Path) -> None:
    with drawing(data, "--api-server-stop") as running:
        stop = urllib.request.Request(running.server.url + "/sdapi/v1/server-stop", method="POST")
        with urllib.request.urlopen(stop, timeout=PATIENCE) as reply:
            assert reply.read() == b"Stopping."
        assert_in_order(running)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_at_once(data: Path, number: signal.Signals) -> None:
    """A client that never sends the rest of its request would be waited for. No model is needed for that."""
    with server_process("--data-dir", str(data), "--core-only", "--skip-load-model-at-start") as process:
        url = urlsplit(process.url)
        with socket.create_connection((url.hostname, url.port)) as hanging:
            hanging.sendall(b"POST /sdapi/v1/options HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            # Whoever comes later is answered later: the server knows of both.
            assert ReferenceServer(process.url, data).call("GET", "/sdapi/v1/progress")[0] == 200
            process.process.send_signal(number)
            until(lambda: refuses(process.url))
            assert process.process.poll() is None
            process.process.send_signal(number)
            assert process.ended(PATIENCE)[0] == 128 + number


def test_a_server_that_is_ended_while_it_begins_ends_in_order(tmp_path: Path) -> None:
    """Its worker imports torch after the first answer; the process must not abort within that, however slow it is."""
    with server_process("--data-dir", str(tmp_path), "--plugins", "tinymodel") as process:
        urllib.request.urlopen(f"{process.url}/livez", timeout=30).close()
        process.process.terminate()
        status, log = process.ended()
    assert status == 0, log
