"""Several devices in one process: each with its own models, pictures as those of one, one state for all."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from tests.devices.conftest import Serve, draw, pixels, request

from latentd.errors import DeviceLost, NotConfigured
from latentd.models.cache import ModelCache
from latentd.models.devices import DevicePolicy, is_device_error, memory_report
from latentd.models.files.checkpoints import Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.vae_files import VaeFiles
from latentd.models.here import this_device, work_on
from latentd.models.manager import ModelManager
from latentd.models.memory_sums import Report, together
from latentd.server.app import create_app
from latentd.server.model_setup import device_policy
from latentd.server.services import AppServices
from latentd.settings import Settings, parse_settings
from latentd.settings.checks import check_settings
from latentd.testing import check_executor
from latentd.types import JobControl

PATIENCE = 120.0


@pytest.fixture(scope="module")
def server(serve: Serve) -> AppServices:
    return serve("--devices", "cpu:0,cpu:1")


def models_of(services: AppServices) -> list[list[str]]:
    return [[model.info.name for model in cache.loaded("checkpoint")] for cache in services.models.caches]


def on(services: AppServices, device: str, **fields: object) -> list[bytes]:
    """The pictures of a generation on one device."""
    from latentd.pipeline.planning.build import build_plan
    from latentd.server import work

    plan = build_plan(request(**fields), services)
    key = services.models.checkpoints.require(plan.checkpoint).name
    job = services.engine.submit(services.portable(work.draw, plan), kind="txt2img", device=device, model_key=key)
    return pixels(job.join(PATIENCE))


def test_two_devices_keep_the_contract(serve: Serve) -> None:
    services = serve("--devices", "cpu:0,cpu:1")
    check_executor(services.engine, services)


def test_each_device_has_its_own_models_and_draws_the_same(lone: AppServices, server: AppServices) -> None:
    expected = pixels(draw(lone, batch_size=2))
    assert on(server, "cpu:0", batch_size=2) == expected
    assert models_of(server) == [["base.safetensors"], []]
    assert on(server, "cpu:1", batch_size=2) == expected
    assert models_of(server) == [["base.safetensors"], ["base.safetensors"]]
    report = server.models.cache_report()
    assert (report.usage["checkpoint"][0], report.loads >= 2) == (2, True)


def test_both_draw_at_the_same_time(lone: AppServices, server: AppServices) -> None:
    seeds = range(8)
    expected = [pixels(draw(lone, seed=seed, sampler_name="DPM++ SDE")) for seed in seeds]

    async def all_at_once() -> list[list[bytes]]:
        jobs = [server.submit(request(seed=seed, sampler_name="DPM++ SDE")) for seed in seeds]
        queued = [await job for job in jobs]
        results = [await job.wait() for job in queued]
        assert {job.device for job in queued} == {"cpu:0", "cpu:1"}
        return [pixels(result) for result in results]

    assert asyncio.run(all_at_once()) == expected


def test_a_job_goes_to_the_device_with_its_checkpoint(server: AppServices) -> None:
    on(server, "cpu:0", override_settings={"sd_model_checkpoint": "base"})
    on(server, "cpu:1", override_settings={"sd_model_checkpoint": "other"})

    async def device(checkpoint: str) -> str | None:
        job = await server.submit(request(override_settings={"sd_model_checkpoint": checkpoint}))
        await job.wait()
        return job.device

    for _ in range(3):
        assert asyncio.run(device("other")) == "cpu:1"
        assert asyncio.run(device("base")) == "cpu:0"


def test_unloading_reaches_every_device(server: AppServices) -> None:
    on(server, "cpu:0")
    on(server, "cpu:1")
    asyncio.run(server.unload_models())
    assert models_of(server) == [[], []]


def test_the_limit_of_loaded_checkpoints_counts_for_every_device(server: AppServices) -> None:
    server.options.update({"sd_checkpoints_limit": 2})
    for checkpoint in ("base", "other"):
        for device in ("cpu:0", "cpu:1"):
            on(server, device, override_settings={"sd_model_checkpoint": checkpoint})
    assert models_of(server) == [["base.safetensors", "other.safetensors"]] * 2
    server.options.update({"sd_checkpoints_limit": 1})
    assert models_of(server) == [["other.safetensors"]] * 2


def test_interrupt_reaches_the_jobs_of_every_device(server: AppServices) -> None:
    begun = threading.Barrier(3, timeout=PATIENCE)

    def work(control: JobControl) -> str | None:
        begun.wait()
        while (stop := control.stop_requested()) is None:
            pass
        return stop

    jobs = [server.engine.submit(work, kind="txt2img") for _ in range(2)]
    begun.wait()
    server.engine.interrupt()
    assert [job.join(PATIENCE) for job in jobs] == ["interrupt", "interrupt"]


def test_every_device_is_warmed_up(serve: Serve) -> None:
    services = serve("--devices", "cpu:0,cpu:1")
    services.warm_up()
    for device in ("cpu:0", "cpu:1"):
        services.engine.submit(lambda control: None, kind="load", quiet=True, device=device).join(PATIENCE)
    assert models_of(services) == [["base.safetensors"], ["base.safetensors"]]


def test_a_device_that_is_missing_is_told_of_and_does_without(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(tiny_data / "models")
    flags = ["--data-dir", str(tmp_path), "--core-only", "--devices", "cuda:5,cpu:0"]
    with TestClient(create_app(parse_settings(flags, environment={})), base_url="http://localhost") as client:
        body = {"prompt": "x", "steps": 1, "width": 64, "height": 64}
        for _ in range(3):
            assert client.post("/sdapi/v1/txt2img", json=body).status_code == 200
        engine = client.app.state.services.engine  # type: ignore[attr-defined]
        with pytest.raises(DeviceLost):
            engine.submit(lambda control: None, kind="load", device="cuda:5").join(PATIENCE)
        ready = client.get("/readyz")
        assert ready.status_code == 200
        (failed,) = ready.json()["failed_devices"]
        assert failed.startswith("cuda:5: ")
        assert "no CUDA device" in failed or "does not exist" in failed


def test_without_a_device_the_server_is_not_ready(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(tiny_data / "models")
    flags = ["--data-dir", str(tmp_path), "--core-only", "--devices", "cuda:5"]
    with TestClient(create_app(parse_settings(flags, environment={})), base_url="http://localhost") as client:
        reply = client.post("/sdapi/v1/txt2img", json={"steps": 1, "width": 64, "height": 64})
        assert reply.status_code == 503
        assert client.post("/sdapi/v1/txt2img", json={"steps": 1, "width": 64, "height": 64}).status_code == 503
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert any("no device is left" in problem for problem in ready.json()["problems"])


# --- flags and policies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--devices", "gpu0"], "name devices as"),
        (["--devices", "cuda"], "name devices as"),
        (["--devices", "cpu:0,cpu:0"], "twice"),
        (["--devices", "cuda:0", "--device-id", "1"], "exclude each other"),
    ],
)
def test_devices_that_cannot_be_meant_are_refused(flags: list[str], words: str, tmp_path: Path) -> None:
    settings = parse_settings(["--data-dir", str(tmp_path), *flags], environment={})
    with pytest.raises(ValueError, match=words):
        check_settings(settings)


def test_each_cuda_device_has_the_policy_of_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = Settings(medvram=True)
    policies = [device_policy(settings, name) for name in ("cuda:0", "cuda:1", "cpu:0")]
    assert [(p.device, p.dtype, p.offload) for p in policies] == [
        ("cuda:0", "float16", "parts"),
        ("cuda:1", "float16", "parts"),
        ("cpu", "float32", "none"),
    ]
    with pytest.raises(NotConfigured, match="2"):
        device_policy(settings, "cuda:2")


def test_a_cuda_device_is_not_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotConfigured, match="no CUDA device"):
        device_policy(Settings(), "cuda:0")


def test_a_thread_sees_the_models_of_its_device(tmp_path: Path) -> None:
    hashes = HashCache(tmp_path)
    manager = ModelManager(Checkpoints([], hashes), VaeFiles([], hashes))
    caches = {name: ModelCache() for name in ("cuda:0", "cuda:1")}
    for name, cache in caches.items():
        manager.add_device(name, cache, lambda name=name: DevicePolicy(device=name))  # type: ignore[misc]
    seen: list[tuple[str | None, bool, str]] = []

    def look() -> None:
        work_on("cuda:1")
        seen.append((this_device(), manager.cache is caches["cuda:1"], manager.policy.device))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [("cuda:1", True, "cuda:1")]
    assert this_device() is None
    assert manager.cache is caches["cuda:0"]
    assert manager.caches == list(caches.values())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_errors_of_the_driver_are_told_from_those_of_the_work(error: Exception, expected: bool) -> None:
    assert is_device_error(error) is expected


def test_memory_of_the_devices_in_use_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    fakes: dict[str, object] = {
        "is_available": lambda: True,
        "device_count": lambda: 3,
        "current_device": lambda: 0,
        "memory_reserved": lambda number: [0, gib, 2 * gib][number],
        "mem_get_info": lambda number: ([24, 20, 10][number] * gib, 24 * gib),
        "memory_stats": lambda number: {"allocated_bytes.all.current": number, "num_ooms": 1},
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    report = memory_report()["cuda"]
    assert report["system"] == {"free": 30 * gib, "used": 18 * gib, "total": 48 * gib}
    assert report["allocated"]["current"] == 3
    assert report["events"]["oom"] == 2
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: 0)
    assert memory_report()["cuda"]["system"]["total"] == 24 * gib


def test_memory_of_several_processes_is_added_up() -> None:
    one: Report = {
        "ram": {"free": 70, "used": 30, "total": 100},
        "cuda": {"system": {"free": 1, "used": 2, "total": 3}, "events": {"retries": 0, "oom": 1}},
    }
    other: Report = {
        "ram": {"free": 90, "used": 10, "total": 100},
        "cuda": {"system": {"free": 4, "used": 5, "total": 9}, "events": {"retries": 1, "oom": 1}},
    }
    assert together(one, other) == {
        "ram": {"free": 60, "used": 40, "total": 100},
        "cuda": {"system": {"free": 5, "used": 7, "total": 12}, "events": {"retries": 1, "oom": 2}},
    }
    none: Report = {"ram": {"error": "x"}, "cuda": {"error": "unavailable"}}
    assert together(none) == none
    assert together(none, one) == one
