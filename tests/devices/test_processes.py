"""Workers that are processes: the executors' contract, equal pictures, and what a crash costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import psutil
import pytest
from tests.devices.conftest import Serve, draw, pixels

from latentd.errors import DeviceLost, NotFound
from latentd.executors import PortableWork
from latentd.server.services import AppServices
from latentd.testing import check_executor
from latentd.types import JobControl

PATIENCE = 120.0
FLAGS = ("--devices", "cpu:0,cpu:1", "--worker-processes")


@pytest.fixture(scope="module")
def server(serve: Serve) -> AppServices:
    services = serve(*FLAGS)
    for name in ("cpu:0", "cpu:1"):
        services.engine.submit(services.portable(say_pid), kind="load", quiet=True, device=name).join(PATIENCE)
    return services


def say_pid(services: Any, control: JobControl) -> int:
    return os.getpid()


def die(services: Any, control: JobControl, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE)


def sleep_long(services: Any, control: JobControl, seconds: float) -> str:
    for _ in range(int(seconds / 0.05)):
        control.check()
        time.sleep(0.05)
    return "slept"


def pid_of(services: AppServices, device: str) -> int:
    return services.engine.submit(services.portable(say_pid), kind="load", quiet=True, device=device).join(PATIENCE)


def test_worker_processes_keep_the_contract(serve: Serve) -> None:
    services = serve(*FLAGS)
    check_executor(services.engine, services)


def test_each_device_has_a_process(server: AppServices) -> None:
    assert len({os.getpid(), pid_of(server, "cpu:0"), pid_of(server, "cpu:1")}) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Latent", "denoising_strength": 0.6},
        {"batch_size": 2, "n_iter": 2, "prompt": "a <lora:lines:0.8> circle", "sampler_name": "Euler a"},
        {"override_settings": {"sd_model_checkpoint": "other", "CLIP_stop_at_last_layers": 2}},
    ],
    ids=["plain", "hires", "lora", "checkpoint"],
)
def test_pictures_and_infotexts_are_the_lone_servers(
    lone: AppServices, server: AppServices, fields: dict[str, Any]
) -> None:
    expected, found = draw(lone, **fields), draw(server, **fields)
    assert pixels(found) == pixels(expected)
    assert [p.infotext for p in found.images] == [p.infotext for p in expected.images]
    assert found.info["all_seeds"] == expected.info["all_seeds"]


def test_options_set_on_the_server_count_in_the_processes(lone: AppServices, server: AppServices) -> None:
    for services in (lone, server):
        asyncio.run(services.set_options({"sd_model_checkpoint": "other.safetensors", "eta_noise_seed_delta": 3}))
    try:
        fields = {"sampler_name": "Euler a"}
        assert pixels(draw(server, **fields)) == pixels(draw(lone, **fields))
        assert server.models.current.sha256 is not None, "the hash that a process computed is not known here"
        assert server.options["sd_model_checkpoint"] == lone.options["sd_model_checkpoint"]
    finally:
        for services in (lone, server):
            asyncio.run(services.set_options({"sd_model_checkpoint": "base.safetensors", "eta_noise_seed_delta": 0}))


def test_overrides_that_are_to_stay_are_set_on_the_server(server: AppServices) -> None:
    draw(server, override_settings={"s_churn": 0.25}, override_settings_restore_afterwards=False)
    assert server.options["s_churn"] == 0.25
    server.options.update({"s_churn": 0.0})


def test_errors_of_a_generation_come_back_as_they_are(server: AppServices) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        draw(server, override_settings={"sd_model_checkpoint": "nowhere"})


def test_a_file_that_came_later_is_found_after_a_refresh(server: AppServices) -> None:
    folder = server.paths.data / "embeddings"
    folder.mkdir(exist_ok=True)
    before = server.scans
    server.refresh_networks()
    assert server.scans == before + 1
    assert draw(server).images


def test_work_that_cannot_be_sent_says_so(server: AppServices) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        server.engine.submit(server.portable(say_pid, lambda: None), kind="load").join(PATIENCE)
    assert server.engine.submit(lambda control: os.getpid(), kind="extras").join(PATIENCE) == os.getpid()


def test_memory_of_the_processes_is_known(server: AppServices) -> None:
    draw(server)
    reports = [place.memory for place in server.engine.places()]
    assert all(report is not None and int(report["ram"]["used"]) > 50e6 for report in reports)


def test_what_the_processes_have_loaded_is_known(server: AppServices) -> None:
    asyncio.run(server.unload_models())
    assert server.models.precision_report() == []
    draw(server)
    (row,) = server.models.precision_report()
    assert row["checkpoint"] == server.models.current.title
    assert row["parts"]["unet"]["dtype"] == "float32"
    name = next(name for name, rows in server.models.elsewhere.items() if rows)
    with pytest.raises(DeviceLost):
        server.engine.submit(server.portable(die, signal.SIGKILL), kind="load", device=name).join(PATIENCE)
    assert server.models.precision_report() == [], "a process that has ended has nothing loaded"


def test_what_the_processes_caches_hold_is_added_up(server: AppServices) -> None:
    asyncio.run(server.unload_models())
    before = server.models.cache_report()
    assert "checkpoint" not in before.usage
    draw(server)
    report = server.models.cache_report()
    count, nbytes = report.usage["checkpoint"]
    assert (count, nbytes > 1e5, report.loads > before.loads) == (1, True, True)
    for name in ("cpu:0", "cpu:1"):
        with pytest.raises(DeviceLost):
            server.engine.submit(server.portable(die, signal.SIGKILL), kind="load", device=name).join(PATIENCE)
    ended = server.models.cache_report()
    assert ended.usage == {}, "a process that has ended has nothing loaded"
    assert (ended.loads, ended.hits) == (report.loads, report.hits), "what was counted stays counted"
    asyncio.run(server.unload_models())


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_a_killed_process_costs_its_job_alone_and_is_started_again(server: AppServices) -> None:
    before = {name: pid_of(server, name) for name in ("cpu:0", "cpu:1")}
    doomed = server.engine.submit(server.portable(sleep_long, 60.0), kind="txt2img", device="cpu:0")
    until(lambda: doomed.status == "running")
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(draw, server, seed=seed) for seed in range(6)]
        until(lambda: len(server.engine.pending()) >= 3)
        killed = time.monotonic()
        os.kill(before["cpu:0"], signal.SIGKILL)
        with pytest.raises(DeviceLost, match=r"cpu:0 was ended by signal 9") as lost:
            doomed.join(PATIENCE)
        assert time.monotonic() - killed < 10
        assert "no other job is lost" in str(lost.value.hint)
        assert all(other.result(PATIENCE).images for other in others)
    after = {name: pid_of(server, name) for name in ("cpu:0", "cpu:1")}
    assert after["cpu:1"] == before["cpu:1"]
    assert after["cpu:0"] not in (before["cpu:0"], os.getpid())
    assert [place.state for place in server.engine.places()] == ["idle", "idle"]


def test_a_killed_process_without_a_job_is_started_again(server: AppServices) -> None:
    process = psutil.Process(pid_of(server, "cpu:1"))
    process.kill()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    job = server.engine.submit(server.portable(say_pid), kind="load", device="cpu:1")
    assert job.join(PATIENCE) != os.getpid(), "an idle process that ended cost a job"


def test_a_device_whose_processes_end_one_after_another_is_drained(serve: Serve) -> None:
    services = serve("--worker-processes")
    work = cast("PortableWork[None]", services.portable(die, signal.SIGSEGV))
    for _ in range(3):
        with pytest.raises(DeviceLost, match="signal 11"):
            services.engine.submit(work, kind="txt2img").join(PATIENCE)
    (place,) = services.engine.places()
    assert place.state == "drained"
    assert "3 in a row ended" in (place.trouble or "")
    assert any("3 in a row ended" in problem for problem in services.problems())
    with pytest.raises(DeviceLost):
        services.engine.submit(work, kind="txt2img")


def test_a_process_that_cannot_start_drains_its_device(serve: Serve) -> None:
    services = serve("--worker-processes", "--devices", "cuda:7,cpu:0")
    assert services.engine.submit(services.portable(say_pid), kind="txt2img").join(PATIENCE) != os.getpid()
    with pytest.raises(DeviceLost):
        services.engine.submit(services.portable(say_pid), kind="load", device="cuda:7").join(PATIENCE)
    states = {place.name: place.state for place in services.engine.places()}
    assert states == {"cuda:7": "drained", "cpu:0": "idle"}


def test_closing_ends_the_processes(serve: Serve) -> None:
    services = serve("--worker-processes")
    pid = services.engine.submit(services.portable(say_pid), kind="load").join(PATIENCE)
    job = services.engine.submit(services.portable(sleep_long, 60.0), kind="txt2img")
    until(lambda: job.status == "running")
    services.close()
    assert job.ended
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
