"""A server on a cluster of two machines, the second in a network of its own: two hundred jobs, and its loss."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from latentd_ray import link
from ray_servers import (
    PATIENCE,
    SHIPPED_SILENCE,
    SMALL,
    Serve,
    drawn,
    process_of,
    put_model,
    states,
    until,
    wait_and_say,
)

pytestmark = pytest.mark.slow

SPACE, HEAD, NODE, PORT = "latentd-test", "10.231.7.1", "10.231.7.2", 6399
STORE = "--object-store-memory=100000000"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """A network namespace with one cable to this one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and the command ip")
    try:
        sh("ip", "netns", "add", SPACE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine allows no network namespace: {error.stderr}")
    try:
        sh("ip", "link", "add", "latentd-a", "type", "veth", "peer", "name", "latentd-b", "netns", SPACE)
        sh("ip", "addr", "add", f"{HEAD}/24", "dev", "latentd-a")
        sh("ip", "link", "set", "latentd-a", "up")
        for command in (["addr", "add", f"{NODE}/24", "dev", "latentd-b"], ["link", "set", "latentd-b", "up"]):
            sh("ip", "-n", SPACE, *command)
        sh("ip", "-n", SPACE, "link", "set", "lo", "up")
        yield
    finally:
        sh("ip", "link", "del", "latentd-a")
        sh("ip", "netns", "del", SPACE)


@dataclass
class Machines:
    """Ray's processes of a head, and of one machine more."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]]

    def start(self, name: str, *flags: str, within: tuple[str, ...] = ()) -> None:
        command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *flags]
        log = (self.folder / f"{name}.log").open("wb")
        self.running[name] = subprocess.Popen(
            command, env={**os.environ, **QUIET}, stdout=log, stderr=log, start_new_session=True
        )

    def join(self) -> None:
        """Start the second machine."""
        flags = (
            f"--address={HEAD}:{PORT}",
            f"--node-ip-address={NODE}",
            "--num-cpus=1",
            "--object-store-memory=100000000",
        )
        self.start("node", *flags, within=("ip", "netns", "exec", SPACE))

    def processes(self, name: str) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.running[name].pid)
            return [*parent.children(recursive=True), parent]
        return []

    def kill(self, name: str) -> None:
        """End everything that runs on a machine at once, as a power failure does."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.running.pop(name).wait(PATIENCE)


@pytest.fixture(scope="module")
def machines(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    pytest.importorskip("ray")
    made = Machines(tmp_path_factory.mktemp("machines"), {})
    made.start(
        *("head", "--head", f"--port={PORT}", f"--node-ip-address={HEAD}", "--num-cpus=1"),
        *("--include-dashboard=false", STORE),
    )

    def listens() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex((HEAD, PORT)) == 0

    until(listens, "the head does not start")
    yield made
    for name in [*made.running]:
        made.kill(name)


@pytest.fixture(scope="module")
def server(machines: Machines, serve: Serve) -> Any:
    """A server with an actor on each machine."""
    machines.join()
    client = serve("--ray-address", f"{HEAD}:{PORT}", "--ray-gpus", "0", "--ray-min-actors", "2")
    services = client.app.state.services
    for place in ("ray:0", "ray:1"):
        process_of(services, place)
    return client


def on_node(server: Any, machines: Machines) -> str:
    """The place whose actor is on the second machine."""
    there = {process.pid for process in machines.processes("node")}
    services = server.app.state.services
    return next(place for place in states(services) if process_of(services, place) in there)


def test_two_hundred_jobs_over_two_machines(server: Any, serve: Serve) -> None:
    lone = serve()
    fields: list[dict[str, Any]] = [{"seed": seed, "steps": 6} for seed in range(10)]
    expected = [drawn(lone, **each) for each in fields]
    seen: list[tuple[float, bool]] = []
    devices: set[str] = set()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(drawn, server, **fields[number % 10]) for number in range(200)]
        while not all(job.done() for job in jobs):
            state = server.get("/sdapi/v1/progress").json()
            seen.append((state["progress"], state["current_image"] is not None))
            devices |= {job.device for job, _ in server.app.state.services.engine.jobs() if job.status == "running"}
    assert all(job.result() == expected[number % 10] for number, job in enumerate(jobs))
    assert any(0 < progress < 1 for progress, _ in seen), "no progress was shown"
    assert any(pictured for _, pictured in seen), "no preview was shown"
    assert devices >= {"ray:0", "ray:1"}


def test_a_lost_machine_costs_no_job(server: Any, machines: Machines) -> None:
    """Its job goes to the other machine within ten seconds; when a machine comes, both draw again."""
    services = server.app.state.services
    lost = on_node(server, machines)
    doomed = services.engine.submit(services.portable(wait_and_say, 1.0), kind="txt2img")
    until(lambda: doomed.progress.sampling_step > 2, "the job does not run")
    if doomed.device != lost:  # then the next is on the other
        doomed = services.engine.submit(services.portable(wait_and_say, 1.0), kind="txt2img")
        until(lambda: doomed.progress.sampling_step > 2, "the job does not run")
    assert doomed.device == lost
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(drawn, server, seed=seed) for seed in range(8)]
        killed = time.monotonic()
        machines.kill("node")
        until(lambda: doomed.device != lost or doomed.ended, "nobody knows of the loss", seconds=10)
        assert time.monotonic() - killed < 10
        assert all(len(job.result(PATIENCE)["images"]) == 1 for job in jobs)
    assert doomed.join(PATIENCE) > 0
    assert states(services)[lost] == "starting"
    machines.join()
    until(lambda: states(services)[lost] == "idle", "no actor came to the new machine")
    assert drawn(server)["images"]


def test_a_machine_that_is_cut_off_is_told_of_in_time(
    server: Any, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says that it is gone: its cable is pulled."""
    monkeypatch.setattr(link, "SILENCE", SHIPPED_SILENCE)
    services = server.app.state.services
    lost = on_node(server, machines)
    doomed = services.engine.submit(services.portable(wait_and_say, 60.0), kind="txt2img", device=lost)
    until(lambda: doomed.progress.sampling_step > 2, "the job does not run")
    sh("ip", "link", "set", "latentd-a", "down")
    cut = time.monotonic()
    with pytest.raises(Exception, match=r"has not been heard of for|ended"):
        doomed.join(10)
    assert time.monotonic() - cut < 10
    assert drawn(server)["images"]


def test_the_command_draws_on_a_cluster_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    put_model(tmp_path, checkpoint)
    flags = ["--data-dir", str(tmp_path), "--plugins", "ray", "--port", "0", "--nowebui"]
    flags += ["--ray-address", "local", "--ray-gpus", "0"]
    log = tmp_path / "log"
    with log.open("wb") as written:
        command = [sys.executable, "-m", "latentd", "serve", *flags]
        process = subprocess.Popen(command, env={**os.environ, **QUIET}, stdout=written, stderr=written)
    try:
        until(lambda: b"listens on" in log.read_bytes() or process.poll() is not None, "it does not start")
        address = re.search(r"listens on (http://\S+)", log.read_text())
        assert address is not None, log.read_text()
        reply = httpx.post(f"{address[1]}/sdapi/v1/txt2img", json=SMALL, timeout=PATIENCE)
        assert len(reply.json()["images"]) == 1
        assert "drives ray:0" in log.read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in children)
        ports = [c.laddr for child in children for c in child.net_connections("inet") if c.status == "LISTEN"]
        hosts = {address.ip.removeprefix("::ffff:") for address in ports}
        assert hosts <= {"127.0.0.1", "::1"}, "others can reach the cluster"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
        assert psutil.wait_procs(children, 10)[1] == []
    finally:
        process.kill()
