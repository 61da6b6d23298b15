"""What Prometheus' own parser reads of ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from latentd.api import Place

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "seed": 3}


def samples(client: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels."""
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = [sample for family in parse(reply.text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}


def value(client: Any, name: str, **labels: str) -> float:
    return samples(client).get((name, tuple(sorted(labels.items()))), 0.0)


def test_jobs_pictures_stages_and_models_are_counted(serve: Callable[..., Any]) -> None:
    client = serve()
    assert client.post("/sdapi/v1/txt2img", json=SMALL | {"batch_size": 2}).status_code == 200
    assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    assert value(client, "latentd_models_loaded", kind="checkpoint") == 1
    assert value(client, "latentd_model_bytes", kind="checkpoint") > 1e5
    (client.app.state.services.paths.data / "models/Stable-diffusion/broken.safetensors").write_bytes(b"no weights")
    client.post("/sdapi/v1/refresh-checkpoints")
    broken = SMALL | {"override_settings": {"sd_model_checkpoint": "broken"}}
    assert client.post("/sdapi/v1/txt2img", json=broken).status_code == 422
    # A job's end is counted beside its answer.
    ended = ("latentd_jobs_total", (("kind", "txt2img"), ("state", "failed")))
    until = time.monotonic() + 30
    while ended not in (found := samples(client)) and time.monotonic() < until:
        time.sleep(0.01)

    def of(name: str, **labels: str) -> float:
        return found[(f"latentd_{name}", tuple(sorted(labels.items())))]

    assert of("jobs_total", kind="txt2img", state="completed") == 2
    assert of("jobs_total", kind="txt2img", state="failed") == 1
    assert of("job_errors_total", kind="txt2img", error="ModelLoadError", code="422") == 1
    assert of("images_total", kind="txt2img") == 3
    for stage in ("prepare", "sample", "finish"):
        assert of("job_stage_seconds_count", kind="txt2img", stage=stage) == 2
    assert of("job_wait_seconds_count", kind="txt2img") == 3
    assert of("jobs_present", state="running") == 0
    assert of("model_cache_hits_total") >= 1
    assert of("model_loads_total") >= 1
    assert of("http_requests_total", method="POST", route="/sdapi/v1/txt2img", status="200") == 2
    assert of("http_requests_total", method="POST", route="/sdapi/v1/txt2img", status="422") == 1
    assert found[("process_resident_memory_bytes", ())] > 0


def test_labels_are_none_of_a_clients_making(serve: Callable[..., Any]) -> None:
    client = serve()
    client.request("FROB", "/sdapi/v1/txt2img")
    client.get("/x" * 100)
    client.get("/latentd/v1/jobs/a-name-of-mine")
    text = client.get("/metrics").text
    assert "FROB" not in text
    assert "a-name-of-mine" not in text
    assert value(client, "latentd_http_requests_total", method="GET", route="", status="404") == 1
    route = "/latentd/v1/jobs/{job_id}"
    assert value(client, "latentd_http_requests_total", method="GET", route=route, status="404") == 1


def test_what_waits_and_a_paused_queue_are_seen(serve: Callable[..., Any], until: Callable[..., None]) -> None:
    client = serve()
    client.post("/agent-scheduler/v1/pause")
    client.post("/latentd/v1/jobs", json=SMALL)
    assert value(client, "latentd_jobs_present", state="queued") == 1
    assert value(client, "latentd_queue_paused") == 1
    time.sleep(0.1)
    client.post("/agent-scheduler/v1/resume")
    until(lambda: value(client, "latentd_jobs_total", kind="txt2img", state="completed") == 1)
    assert value(client, "latentd_job_wait_seconds_sum", kind="txt2img") >= 0.1


def test_openmetrics_where_it_is_asked_for_and_a_key_where_there_are_keys(serve: Callable[..., Any]) -> None:
    client = serve("--api-key", "secret")
    assert client.get("/metrics").status_code == 401
    headers = {"Authorization": "Bearer secret", "Accept": "application/openmetrics-text; version=1.0.0"}
    reply = client.get("/metrics", headers=headers)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert {"latentd_jobs", "latentd_jobs_present"} <= {family.name for family in parse_openmetrics(reply.text)}


def test_memory_of_devices_is_there_once_torch_uses_one(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    client = serve()
    assert "latentd_device_memory_bytes" not in client.get("/metrics").text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (3 << 30, 8 << 30))
    assert value(client, "latentd_device_memory_bytes", device="cuda:1", state="free") == 3 << 30
    assert value(client, "latentd_device_memory_bytes", device="cuda:0", state="total") == 8 << 30


def test_memory_of_other_processes_is_that_of_their_devices(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()

    def place(name: str, cuda: dict[str, Any], used: int) -> Place:
        return Place(name=name, state="idle", memory={"ram": {"used": used}, "cuda": cuda})

    system = {"system": {"free": 3 << 30, "used": 5 << 30, "total": 8 << 30}}
    broken = Place(name="cuda:2", state="drained", memory={"ram": {"error": "gone"}, "cuda": {"error": "gone"}})
    places = [
        place("cpu", system, 1 << 20),
        place("cuda:1", system, 2 << 20),
        place("cpu:3", {"error": "x"}, 3),
        broken,
    ]
    monkeypatch.setattr(client.app.state.services.engine, "places", lambda: places)
    found = samples(client)
    free = {labels: value for (name, labels), value in found.items() if name == "latentd_device_memory_bytes"}
    assert free == {
        (("device", device), ("state", state)): size
        for device in ("cuda", "cuda:1")
        for state, size in (("free", 3 << 30), ("total", 8 << 30))
    }
    used = {labels: value for (name, labels), value in found.items() if name == "latentd_worker_resident_bytes"}
    assert used == {(("device", "cuda"),): 1 << 20, (("device", "cuda:1"),): 2 << 20, (("device", "cpu:3"),): 3}
