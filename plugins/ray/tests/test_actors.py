"""Servers whose pictures the actors of a cluster draw: the same pictures, one contract, and what a lost actor costs."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from latentd_ray import link
from latentd_ray.versions import versions_here
from ray_servers import PATIENCE, Serve, drawn, on_ray, process_of, put_model, states, until, wait_and_say

from latentd.testing import check_executor

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def lone(serve: Serve) -> Any:
    return serve()


@pytest.fixture(scope="module")
def pair(serve: Serve) -> Any:
    """A server with two actors, which divide jobs of several pictures."""
    client = serve(*on_ray(2, "--split-batches"))
    for place in ("ray:0", "ray:1"):
        process_of(client.app.state.services, place)
    return client


def test_ray_keeps_the_executors_contract(serve: Serve) -> None:
    services = serve(*on_ray(1)).app.state.services
    check_executor(services.engine, services)


def test_pictures_and_infotexts_are_the_lone_servers(lone: Any, pair: Any) -> None:
    hires = {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    assert drawn(pair, **hires) == drawn(lone, **hires)


def test_a_job_of_several_batches_is_divided(lone: Any, pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="latentd.engine.parts")
    batches = {"n_iter": 2, "batch_size": 2}
    assert drawn(pair, **batches) == drawn(lone, **batches)
    assert "2 parts" in caplog.text


def test_each_actor_is_a_process(pair: Any) -> None:
    services = pair.app.state.services
    assert len({os.getpid(), process_of(services, "ray:0"), process_of(services, "ray:1")}) == 3


def test_a_killed_actor_costs_no_job(pair: Any) -> None:
    """Its job is tried once more on the other place; another actor takes its place."""
    services = pair.app.state.services
    before = {place: process_of(services, place) for place in ("ray:0", "ray:1")}
    doomed = services.engine.submit(services.portable(wait_and_say, 1.0), kind="txt2img")
    until(lambda: doomed.progress.sampling_step > 2, "the job does not run")
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(drawn, pair, seed=seed) for seed in range(6)]
        lost = doomed.device
        os.kill(before[lost], signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: doomed.device != lost or doomed.ended, "nobody knows of the loss", seconds=10)
        assert time.monotonic() - killed < 10
        assert all(other.result(PATIENCE)["images"] for other in others)
    survivor = next(place for place in before if place != lost)
    assert doomed.join(PATIENCE) == before[survivor]
    until(lambda: states(services) == {"ray:0": "idle", "ray:1": "idle"}, "no actor took its place")
    assert process_of(services, lost) != before[lost]


@pytest.mark.slow
def test_a_job_that_ends_two_actors_fails_and_says_how(serve: Serve) -> None:
    services = serve(*on_ray(2)).app.state.services
    pids = {place: process_of(services, place) for place in ("ray:0", "ray:1")}
    doomed = services.engine.submit(services.portable(wait_and_say, PATIENCE), kind="txt2img")
    until(lambda: doomed.progress.sampling_step > 2, "the job does not run")
    first = doomed.device
    os.kill(pids[first], signal.SIGKILL)
    until(lambda: doomed.device not in (None, first) and doomed.progress.sampling_step > 2, "it is not tried again")
    os.kill(pids[doomed.device], signal.SIGKILL)
    with pytest.raises(Exception, match=r"process \d+ on \S+\) ended \(.*died.*\) while it worked on this job"):
        doomed.join(10)


def test_an_actor_that_stands_still_is_given_up(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose machine is cut off: nobody says that it has ended."""
    monkeypatch.setattr(link, "SILENCE", 2.5)
    services = pair.app.state.services
    pid = process_of(services, "ray:1")
    job = services.engine.submit(services.portable(wait_and_say, PATIENCE), kind="txt2img", device="ray:1")
    until(lambda: job.progress.sampling_step > 2, "the job does not run")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Exception, match=r"has not been heard of for \d s"):
        job.join(10)
    until(lambda: states(services)["ray:1"] == "idle", "no actor took its place")
    assert process_of(services, "ray:1") != pid


@pytest.mark.slow
def test_actors_come_with_waiting_jobs_and_go_when_idle(serve: Serve) -> None:
    services = serve(*on_ray(1, "--ray-max-actors", "2", "--ray-idle-seconds", "1")).app.state.services
    jobs = [services.engine.submit(services.portable(wait_and_say, PATIENCE), kind="txt2img") for _ in range(4)]
    until(lambda: states(services) == {"ray:0": "busy", "ray:1": "busy"}, "no second actor came")
    for job in jobs[1:]:
        services.engine.cancel(job.id)
    services.engine.cancel(jobs[0].id)
    until(lambda: len(states(services)) == 1, "the idle actor stays")
    (left,) = states(services)
    assert process_of(services, left) != os.getpid()


def test_other_versions_on_a_machine_are_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "versions_here", lambda: {**versions_here(), "latentd": "9.9.9", "latentd-new": "1.0"})
    client = serve(*on_ray(1))
    reply = client.post("/sdapi/v1/txt2img", json={"steps": 1})
    assert reply.status_code == 503
    assert "latentd is 9.9.9 on the server and " in reply.text
    assert "latentd-new is 1.0 on the server and not installed there" in reply.text


# --- model files -----------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_its_hash_or_fetched_or_missed(
    lone: Any, serve: Serve, checkpoint: Path, tmp_path: Path
) -> None:
    expected = drawn(lone)
    there = tmp_path / "there"
    models = there / "models/Stable-diffusion"
    models.mkdir(parents=True)
    flags = on_ray(1, "--ray-data-dir", str(there))
    client = serve(*flags)
    reply = client.post("/sdapi/v1/txt2img", json={"steps": 1})
    assert (reply.status_code, reply.json()["error"]) == (503, "FileMissing")
    assert "has no file Stable-diffusion/base.safetensors with SHA-256" in reply.json()["detail"]
    put_model(there, checkpoint, "sub/under another name.safetensors")
    assert drawn(client) == expected
    assert (models / "base.safetensors").samefile(checkpoint)
    for path in (models / "base.safetensors", models / "sub/under another name.safetensors"):
        path.unlink()
    fetching = serve(*flags, "--ray-fetch")
    assert drawn(fetching) == expected
    assert (models / "base.safetensors").read_bytes() == checkpoint.read_bytes()
    assert not (models / "base.safetensors").samefile(checkpoint)
    assert [path.name for path in models.iterdir() if path.is_file()] == ["base.safetensors"]
