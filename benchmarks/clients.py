"""Pictures a second of one server for 1, 4 and 16 clients at once, each asking for the next when it has the last.

The tiny model over HTTP, without and with shared denoising batches. Prints a table; asserts nothing.

    python benchmarks/clients.py --size 64 --rounds 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from urllib.parse import urljoin

from _data import ROOT
from _report import Figure, Report

sys.path.insert(0, str(ROOT / "tools"))

from server_process import server_process

CLIENTS = (1, 4, 16)


def ask(url: str, body: dict[str, object]) -> float:
    """Seconds until the picture is here."""
    request = urllib.request.Request(
        urljoin(url, "/sdapi/v1/txt2img"), json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as reply:
        assert len(json.load(reply)["images"]) == 1
    return time.perf_counter() - began


def run(url: str, clients: int, each: int, body: dict[str, object]) -> tuple[float, list[float]]:
    """(seconds until all have their pictures, seconds of every request)."""
    taken: list[float] = []

    def client(number: int) -> None:
        taken.extend(ask(url, {**body, "seed": 100 * number + count}) for count in range(each))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, taken


def measure(report: Report, flags: list[str], arguments: argparse.Namespace) -> None:
    """All numbers of clients by turns, on one server."""
    body: dict[str, object] = {
        "prompt": "a red apple", "steps": arguments.steps, "sampler_name": "Euler",
        "width": arguments.size, "height": arguments.size,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as data, server_process("--data-dir", data, *flags) as server:
        run(server.url, 2, 1, body)
        rates: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        waits: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        for _ in range(arguments.rounds):
            for clients in CLIENTS:
                each = max(1, arguments.pictures // clients)
                seconds, taken = run(server.url, clients, each, body)
                rates[clients].append(clients * each / seconds)
                waits[clients] += taken
    alone = statistics.median(rates[1])
    for clients in CLIENTS:
        report.add(
            f"{clients} clients{', shared batches' * bool(flags)}",
            pictures_a_second=Figure.of(rates[clients]),
            of_one=round(statistics.median(rates[clients]) / alone, 2),
            wait=Figure.of(waits[clients]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=16, help="of each number of clients in a round")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    report = Report("clients")
    for flags in ([], ["--share-batches", "16"]):
        measure(report, flags, arguments)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
