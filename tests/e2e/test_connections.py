"""A server process with few file descriptors and many silent clients."""

from __future__ import annotations

import resource
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from tools.server_process import server_process

DESCRIPTORS = 256
SILENT = 400
PATIENCE = 60.0


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_whoever_speaks_is_served_and_the_log_stays_short(tmp_path: Path) -> None:
    flags = ["--core-only", "--data-dir", str(tmp_path)]
    with ExitStack() as stack:
        server = stack.enter_context(server_process(*flags, before=few_descriptors))
        address = urlsplit(server.url)
        before = len("".join(server.lines))
        for number in range(SILENT):
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), PATIENCE))
            if number % 2:
                client.sendall(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        for _ in range(3):
            with urllib.request.urlopen(server.url + "/livez", timeout=PATIENCE) as reply:
                assert reply.status == 200
        assert len("".join(server.lines)) - before < 2000
        assert "file descriptors suffice for 128 connections" in "".join(server.lines)
