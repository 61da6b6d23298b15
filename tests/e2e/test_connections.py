"""A server process with few file descriptors and many silent clients."""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

DESCRIPTORS = 256
SILENT = 400
PATIENCE = 60.0


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_whoever_speaks_is_served_and_the_log_stays_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "latentd", "serve", "--core-only", "--port", "0", "--data-dir", str(tmp_path)]
    with log.open("w") as written, ExitStack() as stack:
        process = subprocess.Popen(command, stderr=written, preexec_fn=few_descriptors)
        stack.callback(process.wait, 15)
        stack.callback(process.kill)
        end = time.monotonic() + PATIENCE
        while not (found := re.search(r"listens on (http\S+)", log.read_text())):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        address = urlsplit(found[1])
        before = len(log.read_bytes())
        for number in range(SILENT):
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), PATIENCE))
            if number % 2:
                client.sendall(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        for _ in range(3):
            with urllib.request.urlopen(found[1] + "/livez", timeout=PATIENCE) as reply:
                assert reply.status == 200
        assert len(log.read_bytes()) - before < 2000
        assert "file descriptors suffice for 128 connections" in log.read_text()
