"""``GET /metrics`` for Prometheus, by its own client library. Labels have few values: none is a text of a client's."""

from __future__ import annotations

import sys
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from latentd.api import APIRouter, Executor, JsonValue, Services
from latentd_operations.results import drawn, status_of
from latentd_operations.timelines import ENDS, Timeline
from latentd_operations.webhooks import OUTCOMES

if TYPE_CHECKING:
    from latentd_operations.webhooks import Webhooks

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """Everything that is counted, of one server."""

    def __init__(self, services: Services, webhooks: Webhooks) -> None:
        self.registry = CollectorRegistry()
        self._services = services
        made: dict[str, Any] = {"namespace": "latentd", "registry": self.registry}
        self._ended = Counter("jobs", "Jobs that have ended.", ["kind", "state"], **made)
        self._images = Counter("images", "Pictures of completed jobs.", ["kind"], **made)
        self._errors = Counter("job_errors", "Jobs that failed, by error.", ["kind", "error", "code"], **made)
        self._wait = Histogram("job_wait_seconds", "Time in the queue.", ["kind"], buckets=_SECONDS, **made)
        self._stages = Histogram(
            "job_stage_seconds", "Time of a job's stages.", ["kind", "stage"], buckets=_SECONDS, **made
        )
        self._requests = Counter("http_requests", "Replies.", ["method", "route", "status"], **made)
        self._times = Histogram(
            "http_request_seconds", "From a request to its reply's end.", ["route"], buckets=_SECONDS, **made
        )
        self.registry.register(_State(services, webhooks))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue], timeline: Timeline) -> None:
        """Count what has happened to a job; on the thread where it happens."""
        kind = str(data["kind"])
        if event == "started" and timeline.started is not None:
            self._wait.labels(kind).observe(max(timeline.started - timeline.created, 0.0))
        if event not in ENDS:
            return
        self._ended.labels(kind, event).inc()
        if data["error"] is not None and event == "failed":
            code = str(status_of(self._services, job_id))
            self._errors.labels(kind, str(data["error"]["type"]), code).inc()
        if event == "completed":
            self._images.labels(kind).inc(drawn(self._services, job_id)[0])
            for stage, begin, end in timeline.stages():
                if stage != "queue":
                    self._stages.labels(kind, stage).observe(end - begin)

    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a reply."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._times.labels(route).observe(seconds)


class _State(Collector):
    """What is read at the moment of the scrape: gauges, and counters that others keep."""

    def __init__(self, services: Services, webhooks: Webhooks) -> None:
        self._services = services
        self._webhooks = webhooks

    def collect(self) -> Iterator[Metric]:
        """The queue, the models, the devices and the webhooks."""
        jobs = Tally(job.status for job, _ in self._services.queue.jobs())
        present = GaugeMetricFamily("latentd_jobs_present", "Jobs that wait or run.", labels=["state"])
        for state in ("queued", "running"):
            present.add_metric([state], jobs[state])
        yield present
        yield GaugeMetricFamily("latentd_queue_paused", "1 while no job is started.", self._services.queue.paused)
        yield from self._models()
        yield from self._memory()
        sent = CounterMetricFamily("latentd_webhooks", "Deliveries of webhooks, by outcome.", labels=["outcome"])
        for outcome in OUTCOMES:
            sent.add_metric([outcome], self._webhooks.outcomes[outcome])
        yield sent
        yield GaugeMetricFamily("latentd_webhooks_waiting", "Deliveries that wait.", len(self._webhooks))

    def _models(self) -> Iterator[Metric]:
        report = self._services.models.cache_report()
        yield CounterMetricFamily("latentd_model_cache_hits", "Models asked for that were loaded.", report.hits)
        yield CounterMetricFamily("latentd_model_loads", "Models asked for that had to be loaded.", report.loads)
        count = GaugeMetricFamily("latentd_models_loaded", "Models that are loaded.", labels=["kind"])
        size = GaugeMetricFamily("latentd_model_bytes", "Their bytes.", labels=["kind"])
        for kind, (number, nbytes) in report.usage.items():
            count.add_metric([kind], number)
            size.add_metric([kind], nbytes)
        yield count
        yield size

    def _memory(self) -> Iterator[Metric]:
        """Memory of accelerators, and of processes that work for this one as they were after their last jobs."""
        device = GaugeMetricFamily("latentd_device_memory_bytes", "Memory of devices.", labels=["device", "state"])
        worker = GaugeMetricFamily(
            "latentd_worker_resident_bytes", "Resident memory of the processes that draw.", labels=["device"]
        )
        for name, free, total in (*_own_devices(), *self._far_devices(worker)):
            device.add_metric([name, "free"], free)
            device.add_metric([name, "total"], total)
        yield from (family for family in (device, worker) if family.samples)

    def _far_devices(self, worker: GaugeMetricFamily) -> Iterator[tuple[str, float, float]]:
        """Name, free and total bytes of each device of another process, whose resident memory goes to ``worker``."""
        queue = self._services.queue
        for place in queue.places() if isinstance(queue, Executor) else ():
            if place.memory is None:
                continue
            # A server of one device calls it cpu, whatever it is.
            system = place.memory["cuda"].get("system")
            name = "cuda" if place.name == "cpu" and system else place.name
            if system:
                yield name, system["free"], system["total"]
            if "used" in place.memory["ram"]:
                worker.add_metric([name], place.memory["ram"]["used"])


def _own_devices() -> Iterator[tuple[str, float, float]]:
    """Name, free and total bytes of each CUDA device; none before a worker thread of this process uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return
    for number in range(torch.cuda.device_count()):
        yield f"cuda:{number}", *torch.cuda.mem_get_info(number)


def router(metrics: Metrics) -> APIRouter:
    """The route of the metrics."""
    routes = APIRouter(tags=["operations"])

    @routes.get(
        "/metrics",
        operation_id="get_metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}},
    )
    def scrape(request: Request) -> Response:
        """The metrics in Prometheus' text format, or OpenMetrics where Accept asks for it; needs a key as all else."""
        encode, media = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=media)

    return routes
