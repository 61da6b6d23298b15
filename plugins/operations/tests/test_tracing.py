"""Spans as OpenTelemetry's own SDK makes them; off means that the SDK is not even imported."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from latentd_operations import Operations, exporting, tracing
from latentd_operations.telemetry import exporters_wanted
from latentd_operations.timelines import Timeline, Timelines
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from latentd.api import APIRouter, Services, hookimpl
from latentd.testing import HeadlessServices

SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "seed": 3}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
LOGGER = "latentd_operations.exporting"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


class Memory:
    """The spans that an in-memory exporter has got."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def spans(self) -> dict[str, ReadableSpan]:
        """By name; each is to be there once."""
        spans = self.exporter.get_finished_spans()
        found = {span.name: span for span in spans}
        assert len(found) == len(spans), [span.name for span in spans]
        return found


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Turns tracing on, into memory."""
    found = Memory()
    monkeypatch.setattr(exporting, "exporter_of", lambda name: found.exporter)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    return found


def of_spans(spans: dict[str, ReadableSpan], *names: str) -> list[ReadableSpan]:
    assert set(spans) == set(names)
    return [spans[name] for name in names]


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


STAGES = ("queue", "prepare", "sample", "finish")


# --- what is in the spans --------------------------------------------------------------------------------------------


def test_a_job_continues_its_callers_trace_and_has_its_stages(
    serve: Callable[..., Any], memory: Memory, until: Callable[..., None]
) -> None:
    client = serve()
    body = SMALL | {"batch_size": 2, "sampler_name": "Euler a", "force_task_id": "mine"}
    assert client.post("/sdapi/v1/txt2img", json=body, headers=SAMPLED).status_code == 200
    until(lambda: len(memory.exporter.get_finished_spans()) == 6)
    route = "POST /sdapi/v1/txt2img"
    request, job, *stages = of_spans(memory.spans(), route, "job txt2img", *STAGES)
    assert {format(span.context.trace_id, "032x") for span in (request, job, *stages)} == {TRACE}
    assert format(parent_of(request) or 0, "016x") == CALLER
    assert parent_of(job) == request.context.span_id
    assert {parent_of(stage) for stage in stages} == {job.context.span_id}
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/sdapi/v1/txt2img",
        "http.response.status_code": 200,
    }
    assert attributes(job) == {
        "latentd.job.id": "mine",
        "latentd.job.kind": "txt2img",
        "latentd.job.state": "completed",
        "latentd.width": 64,
        "latentd.height": 64,
        "latentd.steps": 1,
        "latentd.images": 2,
        "latentd.sampler": "Euler a",
    }
    assert job.status.status_code is StatusCode.UNSET
    # One stage begins where the one before it ends; together they are the job.
    times = [time for stage in stages for time in (stage.start_time, stage.end_time)]
    assert times == sorted(times)
    assert [times[at] == times[at + 1] for at in (1, 3, 5)] == [True] * 3
    assert (times[0], times[-1]) == (job.start_time, job.end_time)
    assert (request.start_time or 0) <= times[0]
    assert times[-1] <= (request.end_time or 0)
    assert job.resource.attributes["service.name"] == "latentd"
    assert "a red circle" not in "".join(span.to_json() for span in memory.exporter.get_finished_spans())


def test_stages_are_those_of_the_metrics(serve: Callable[..., Any], memory: Memory, until: Callable[..., None]) -> None:
    client = serve()
    client.post("/sdapi/v1/txt2img", json=SMALL)
    until(lambda: len(memory.exporter.get_finished_spans()) == 6)
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    spans = memory.spans()
    for stage in STAGES[1:]:
        counted = float(lines[f'latentd_job_stage_seconds_sum{{kind="txt2img",stage="{stage}"}}'])
        length = ((spans[stage].end_time or 0) - (spans[stage].start_time or 0)) / 1e9
        assert length == pytest.approx(counted, abs=1e-5)


def test_a_failure_is_told_by_its_class(serve: Callable[..., Any], memory: Memory, until: Callable[..., None]) -> None:
    client = serve()
    (client.app.state.services.paths.data / "models/Stable-diffusion/broken.safetensors").write_bytes(b"no weights")
    client.post("/sdapi/v1/refresh-checkpoints")
    broken = SMALL | {"override_settings": {"sd_model_checkpoint": "broken"}}
    assert client.post("/sdapi/v1/txt2img", json=broken).status_code == 422
    until(lambda: len(memory.exporter.get_finished_spans()) == 4)
    job, request, *_ = of_spans(memory.spans(), "job txt2img", "POST /sdapi/v1/txt2img", "queue", "prepare")
    assert (job.status.status_code, job.status.description) == (StatusCode.ERROR, "ModelLoadError")
    assert attributes(job)["error.type"] == "ModelLoadError"
    assert attributes(job)["latentd.job.state"] == "failed"
    # The request was wrong, not the server.
    assert request.status.status_code is StatusCode.UNSET
    assert attributes(request)["http.response.status_code"] == 422


def test_a_job_that_never_ran_has_waited_alone(
    serve: Callable[..., Any], memory: Memory, until: Callable[..., None]
) -> None:
    client = serve()
    client.post("/agent-scheduler/v1/pause")
    job_id = client.post("/latentd/v1/jobs", json=SMALL, headers=SAMPLED).json()["id"]
    client.post(f"/latentd/v1/jobs/{job_id}/cancel", headers={"traceparent": f"00-{'1' * 32}-{'1' * 16}-01"})
    until(lambda: len(memory.exporter.get_finished_spans()) == 3)
    job, _, queue = of_spans(memory.spans(), "job txt2img", "POST /latentd/v1/jobs", "queue")
    assert format(job.context.trace_id, "032x") == TRACE
    assert (job.start_time, job.end_time) == (queue.start_time, queue.end_time)
    assert attributes(job)["latentd.job.state"] == "cancelled"
    assert job.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("header", ["", "00-nonsense", f"00-{'0' * 32}-{CALLER}-01", "x" * 4000])
def test_without_a_usable_traceparent_each_request_is_a_trace_of_its_own(
    serve: Callable[..., Any], memory: Memory, until: Callable[..., None], header: str
) -> None:
    client = serve()
    client.get("/sdapi/v1/progress", headers=SAMPLED)
    for _ in range(2):
        assert client.post("/sdapi/v1/txt2img", json=SMALL, headers={"traceparent": header}).status_code == 200
    until(lambda: len(memory.exporter.get_finished_spans()) == 12)
    roots = [span for span in memory.exporter.get_finished_spans() if span.parent is None]
    assert [span.name for span in roots] == ["POST /sdapi/v1/txt2img"] * 2
    assert len({span.context.trace_id for span in memory.exporter.get_finished_spans()}) == 2


def test_what_the_caller_does_not_sample_is_not_sent(
    serve: Callable[..., Any], memory: Memory, until: Callable[..., None]
) -> None:
    client = serve()
    client.post("/sdapi/v1/txt2img", json=SMALL, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    client.post("/sdapi/v1/txt2img", json=SMALL)
    until(lambda: len(memory.exporter.get_finished_spans()) == 6)
    assert TRACE not in {format(span.context.trace_id, "032x") for span in memory.exporter.get_finished_spans()}


class Instrumented:
    """A plugin in whose route something else has made a span of the request."""

    def __init__(self) -> None:
        self.outer = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self.outer))

    @hookimpl
    def register_routes(self, services: Services) -> list[APIRouter]:
        routes = APIRouter()

        @routes.get("/instrumented")
        async def instrumented() -> None:
            with self._provider.get_tracer("other").start_as_current_span("outer"):
                await services.run_on_worker(lambda control: None, kind="nothing")

        return [routes]


def test_a_job_is_below_the_span_that_others_make_of_its_request(
    serve: Callable[..., Any], memory: Memory, until: Callable[..., None]
) -> None:
    plugin = Instrumented()
    client = serve(plugins=[plugin])
    assert client.get("/instrumented").status_code == 200
    until(lambda: len(memory.exporter.get_finished_spans()) == 2)
    job, _ = of_spans(memory.spans(), "job nothing", "queue")
    [outer] = plugin.outer.get_finished_spans()
    assert (parent_of(job), job.context.trace_id) == (outer.context.span_id, outer.context.trace_id)


def test_log_lines_name_the_trace(
    serve: Callable[..., Any], memory: Memory, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    with caplog.at_level(logging.INFO):
        client = serve()
        client.post("/sdapi/v1/txt2img", json=SMALL | {"force_task_id": "mine"}, headers=SAMPLED)
        until(lambda: any("mine completed" in record.message for record in caplog.records))
    ended = [record for record in caplog.records if "mine completed" in record.message]
    assert [getattr(record, "trace_id", None) for record in ended] == [TRACE]


def follow(timelines: Timelines, created: float, event: str, **more: Any) -> Timeline:
    return timelines.follow("mine", event, {"created": created, "stage": None, **more})


def test_an_id_that_is_used_again_has_another_timeline() -> None:
    timelines = Timelines()
    follow(timelines, 1.0, "started", started=2.0)
    follow(timelines, 5.0, "started", started=6.0)
    for stage in ("prepare", "sample", "finish"):
        follow(timelines, 1.0, "progress", stage=stage)
    first = follow(timelines, 1.0, "completed", finished=4.0, stage="finish")
    again = follow(timelines, 5.0, "failed", finished=7.0, stage="prepare")
    assert [name for name, _, _ in first.stages()] == [*STAGES]
    assert list(again.stages()) == [("queue", 5.0, 6.0), ("prepare", 6.0, 7.0)]


@pytest.mark.parametrize(
    ("reached", "names"),
    [
        ([], ["queue"]),
        (["prepare"], ["queue", "prepare"]),
        (["prepare", "sample"], ["queue", "prepare", "sample"]),
        (["sample", "finish", "sample", "finish"], ["queue", "prepare", "sample", "finish"]),
    ],
)
def test_a_job_ends_in_the_stage_that_it_is_at(reached: list[str], names: list[str]) -> None:
    timeline = Timeline(created=1.0, started=2.0)
    for at, stage in enumerate(reached):
        timeline.reach(stage, 3.0 + at)
    timeline.finished = 9.0
    stages = list(timeline.stages())
    assert [name for name, _, _ in stages] == names
    assert [begin for _, begin, _ in stages[1:]] == [end for _, _, end in stages[:-1]]
    if "finish" in names:
        assert stages[2:] == [("sample", 3.0, 6.0), ("finish", 6.0, 9.0)]


# --- where spans go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "a"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": " otlp , console"}, ["otlp", "console"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "True"}, []),
    ],
)
def test_opentelemetrys_own_variables_turn_it_on(variables: dict[str, str], names: list[str]) -> None:
    assert exporters_wanted(variables) == names


def test_the_service_is_called_what_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    provider = exporting.provider_of(["console"])
    assert provider.resource.attributes["service.name"] == "pictures"
    assert provider.resource.attributes["deployment.environment"] == "test"
    provider.shutdown()


def test_a_collector_that_is_away_costs_no_job_anything_and_one_line(
    serve: Callable[..., Any],
    receiver: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    tries = []
    export = exporting.QuietExporter.export
    monkeypatch.setattr(exporting.QuietExporter, "export", lambda self, spans: tries.append(1) or export(self, spans))
    receiver.stop()
    client = serve()
    for _ in range(2):
        before = len(tries)
        assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
        until(lambda before=before: len(tries) > before)
    until(lambda: said(caplog) != [])
    receiver.start()
    while len(said(caplog)) < 2:
        assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    lost, again = said(caplog)
    assert ("cannot be delivered by otlp" in lost, "Connection refused" in lost) == (True, True)
    assert "delivered by otlp again" in again
    assert receiver.taken


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log has of OpenTelemetry and of this plugin's way to it."""
    return [record.getMessage() for record in caplog.records if record.name.startswith((LOGGER, "opentelemetry"))]


def test_a_collector_that_never_answers_does_not_hold_the_servers_end(
    serve: Callable[..., Any],
    latest: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{latest.getsockname()[1]}")
    monkeypatch.setattr(tracing, "CLOSING", 0.2)
    client = serve()
    assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    client.app.state.services.close()
    assert "the last spans were not delivered" in caplog.text


@pytest.fixture
def latest() -> Iterator[socket.socket]:
    """A port where connections are taken and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


# --- off, and without the packages -----------------------------------------------------------------------------------


def test_off_means_that_it_is_not_imported(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "models/Stable-diffusion").mkdir(parents=True)
    (tmp_path / "models/Stable-diffusion/one.safetensors").symlink_to(checkpoint)
    program = f"""
        import sys
        from pathlib import Path
        from latentd.testing import AppFactory
        from latentd_operations import Operations

        factory = AppFactory(Path({str(tmp_path)!r}))
        client = factory([Operations()])
        assert client.post("/sdapi/v1/txt2img", json={SMALL!r}).status_code == 200
        assert client.get("/metrics").status_code == 200
        factory.close()
        # FastAPI itself imports opentelemetry-api, on which it depends.
        unwanted = ("opentelemetry.sdk", "opentelemetry.exporter", "latentd_operations.tracing")
        print([name for name in sys.modules if name.startswith(unwanted)])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_missing_package_is_named_at_the_start_and_the_server_runs_on(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    monkeypatch.delitem(sys.modules, "latentd_operations.exporting")
    monkeypatch.delitem(sys.modules, "latentd_operations.tracing")
    client = serve()
    [line] = [record.getMessage() for record in caplog.records if record.name == "latentd_operations.telemetry"]
    assert ("opentelemetry.sdk" in line, "install latentd-operations[otel]" in line) == (True, True)
    assert client.post("/sdapi/v1/txt2img", json=SMALL, headers=SAMPLED).status_code == 200
    assert client.get("/metrics").status_code == 200


def test_a_process_that_answers_no_requests_makes_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a worker process: the server makes them."""
    made: list[object] = []
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(exporting, "provider_of", made.append)
    Operations().startup(HeadlessServices())
    assert made == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("OTEL_TRACES_EXPORTER", "carrier-pigeon", "carrier-pigeon"), ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "positive")],
)
def test_a_wrong_variable_is_told_and_takes_nothing_else_away(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    word: str,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv(name, value)
    client = serve()
    assert "no traces: " in caplog.text
    assert word in caplog.text
    assert client.get("/metrics").status_code == 200
