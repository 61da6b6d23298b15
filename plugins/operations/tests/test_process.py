"""A server process with a worker process, a collector of traces and a scrape: what operators have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families as parse

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 4, "width": 64, "height": 64, "seed": 3}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def server_process(data: Path, *flags: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
    """Address, process and log file of ``latentd serve`` with this plugin."""
    log = data / "log.jsonl"
    command = [sys.executable, "-m", "latentd", "serve", "--data-dir", str(data), "--port", "0", "--plugins"]
    command += ["operations", "--log-format", "json", *flags]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, text=True, env=os.environ | variables)
    try:
        while "listens on" not in (said := log.read_text()):
            assert process.poll() is None, said
        line = next(line for line in said.splitlines() if "listens on" in line)
        yield json.loads(line)["message"].split()[-1], process, log
    finally:
        process.kill()
        process.wait()


def spans_of(receiver: Any) -> list[Any]:
    """What the collector was sent."""
    spans: list[Any] = []
    for call in receiver.taken:
        assert (call.path, call.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        assert call.headers["x-key"] == "abc"
        for sent in ExportTraceServiceRequest.FromString(call.body).resource_spans:
            said = {attribute.key: attribute.value.string_value for attribute in sent.resource.attributes}
            assert said["service.name"] == "latentd"
            spans += [span for scope in sent.scope_spans for span in scope.spans]
    return spans


def test_a_collector_and_a_scrape_get_what_a_worker_process_does(
    tmp_path: Path, checkpoint: Path, receiver: Any
) -> None:
    """The server is told to end right after its answer, long before spans are due to be sent."""
    (tmp_path / "models/Stable-diffusion").mkdir(parents=True)
    (tmp_path / "models/Stable-diffusion/one.safetensors").symlink_to(checkpoint)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    with server_process(tmp_path, "--worker-processes", **variables) as (url, process, log):
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        reply = httpx.post(f"{url}/sdapi/v1/txt2img", json=SMALL, headers=headers, timeout=120)
        assert reply.status_code == 200, reply.text
        scraped = list(parse(httpx.get(f"{url}/metrics").text))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        lines = [json.loads(line) for line in log.read_text().splitlines()]

    spans = spans_of(receiver)
    [request] = [span for span in spans if span.name == "POST /sdapi/v1/txt2img"]
    [job] = [span for span in spans if span.name == "job txt2img"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert (job.trace_id.hex(), job.parent_span_id) == (TRACE, request.span_id)
    stages = [span.name for span in spans if span.parent_span_id == job.span_id]
    assert stages == ["queue", "prepare", "sample", "finish"]
    [ended] = [line for line in lines if "txt2img" in line["message"] and "completed in" in line["message"]]
    assert ended["trace_id"] == TRACE

    values = {(sample.name, *sample.labels.values()): sample.value for family in scraped for sample in family.samples}
    assert values["latentd_models_loaded", "checkpoint"] == 1
    assert values["latentd_model_bytes", "checkpoint"] > 1e5
    assert values["latentd_model_loads_total",] >= 1
    assert values["latentd_worker_resident_bytes", "cpu"] > 50e6
