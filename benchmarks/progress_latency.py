"""How long a client waits for an answer while one generation runs and many more wait, against an idle server.

Starts two real servers, lets each make one picture, then loads one of them and asks both in turn, in one run on one
machine: only the ratio of two columns means anything on a shared machine. Prints a table; asserts nothing.

    python benchmarks/progress_latency.py --waiting 100 200 --data-dir DIR
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from _data import ROOT, assembled

sys.path.insert(0, str(ROOT / "tools"))

from server_process import SERVE, server_process

BODY = {"prompt": "a red circle on a blue background", "seed": 5, "width": 256, "height": 256, "sampler_name": "Euler"}
READS = {
    "GET /sdapi/v1/progress": ("GET", "/sdapi/v1/progress"),
    "GET /sdapi/v1/options": ("GET", "/sdapi/v1/options"),
    "GET /sdapi/v1/samplers": ("GET", "/sdapi/v1/samplers"),
    "GET /latentd/v1/jobs": ("GET", "/latentd/v1/jobs"),
}
INTERRUPT = "POST /sdapi/v1/interrupt"


@dataclass
class Server:
    """A server process and one kept connection to it."""

    port: int
    connection: http.client.HTTPConnection = field(init=False)
    pending: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def ask(self, method: str, path: str, body: object = None) -> tuple[float, bytes]:
        """Milliseconds from the request to the whole answer, and the answer.

        :raises RuntimeError: the answer is not a 2xx.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        begun = time.perf_counter()
        self.connection.request(method, path, body=data, headers=headers)
        reply = self.connection.getresponse()
        content = reply.read()
        taken = (time.perf_counter() - begun) * 1000
        if reply.status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {reply.status} {content[:300]!r}")
        return taken, content

    def post_and_leave(self, body: object) -> None:
        """Ask for a picture on a connection of its own and do not wait for the answer."""
        data = json.dumps(body).encode()
        head = (
            "POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(head.encode() + data)
        self.pending.append(connection)


@contextlib.contextmanager
def served(command: str, data: str) -> Iterator[Server]:
    """A server that has made its first picture; stopped in the end."""
    with server_process("--data-dir", data, command=shlex.split(command)) as process:
        server = Server(urlsplit(process.url).port or 80)
        server.ask("POST", "/sdapi/v1/txt2img", {**BODY, "steps": 2})
        yield server


def percentile(values: list[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def waiting_jobs(server: Server) -> int:
    """How many jobs wait on ``server``."""
    return int(json.loads(server.ask("GET", "/internal/pending-tasks")[1])["size"])


def until_next_job(server: Server) -> None:
    """Return when the job that was interrupted has made way for the next."""
    interrupted = True
    while interrupted:
        time.sleep(0.05)
        interrupted = json.loads(server.ask("GET", "/sdapi/v1/progress")[1])["state"]["interrupted"]


def measure(idle: Server, loaded: Server, waiting: int, requests: int, interrupts: int) -> None:
    """Load one server, ask both in turn, print the table for this number of waiting jobs."""
    for _ in range(1 + waiting + interrupts):
        loaded.post_and_leave({**BODY, "steps": 150, "n_iter": 50})
    # A connection that was idle for long may have been closed by the server.
    idle.connection.close()
    while waiting_jobs(loaded) < waiting + interrupts:
        time.sleep(0.05)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (*READS, INTERRUPT)}
    for _ in range(requests):
        for name, (method, path) in READS.items():
            for server, kept in zip((idle, loaded), times[name], strict=True):
                kept.append(server.ask(method, path)[0])
        time.sleep(0.005)
    for _ in range(interrupts):
        for server, kept in zip((idle, loaded), times[INTERRUPT], strict=True):
            kept.append(server.ask("POST", "/sdapi/v1/interrupt")[0])
        until_next_job(loaded)
    left = waiting_jobs(loaded)
    print(f"\none generation runs, {waiting} more wait ({left} at the end)")
    heads = f"{'idle p50':>9} {'p99':>7} {'loaded p50':>11} {'p99':>7} {'max':>7} {'p99 ratio':>10}  n"
    print(f"{'milliseconds':28} {heads}")
    for name, (quiet, busy) in times.items():
        ratio = percentile(busy, 0.99) / percentile(quiet, 0.99)
        print(
            f"{name:28} {percentile(quiet, 0.5):9.2f} {percentile(quiet, 0.99):7.2f} {percentile(busy, 0.5):11.2f} "
            f"{percentile(busy, 0.99):7.2f} {max(busy):7.2f} {ratio:10.1f}  {len(busy)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 200], help="numbers of jobs that wait")
    parser.add_argument("--requests", type=int, default=300, help="how often each address is asked")
    parser.add_argument("--interrupts", type=int, default=20, help="how many interrupts; each ends one job")
    parser.add_argument("--data-dir", help="data directory with a checkpoint; default: the tests' tiny models")
    parser.add_argument("--command", default=shlex.join(SERVE), help="what starts a server; flags follow")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data_dir or assembled(folder)
        for waiting in arguments.waiting:
            with served(arguments.command, data) as idle, served(arguments.command, data) as loaded:
                measure(idle, loaded, waiting, arguments.requests, arguments.interrupts)


if __name__ == "__main__":
    main()
