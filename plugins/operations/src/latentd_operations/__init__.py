"""What operators need: metrics, webhooks, traces, agent-scheduler's routes. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentd.api import JsonValue, OptionSpec, Services, hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

    from latentd_operations.metrics import Metrics
    from latentd_operations.tasks import Tasks
    from latentd_operations.timelines import Timelines
    from latentd_operations.tracing import Tracing
    from latentd_operations.webhooks import Webhooks

__all__ = ["plugin"]

_SECTION = "operations"


class Operations:
    """The plugin; one object a server, which the entry point names."""

    def __init__(self) -> None:
        self._metrics: Metrics | None = None
        self._webhooks: Webhooks | None = None
        self._tasks: Tasks | None = None
        self._timelines: Timelines | None = None
        self._tracing: Tracing | None = None

    @hookimpl
    def register_options(self) -> list[OptionSpec]:
        """Where webhooks go; set in config.json alone, since they make the server send requests."""
        return [
            OptionSpec(
                key="webhook_urls",
                default="",
                help="Addresses that are told of every job's end, separated by commas.",
                api_writable=False,
                section=_SECTION,
            ),
            OptionSpec(
                key="webhook_hosts",
                default="",
                help="Hosts that a request may name as its callback_url, separated by commas; .example.com is a domain "
                "with all below it.",
                api_writable=False,
                section=_SECTION,
            ),
            OptionSpec(
                key="webhook_private",
                default=False,
                help="Let webhooks go to addresses that are not public: this machine, the local network.",
                api_writable=False,
                section=_SECTION,
            ),
        ]

    @hookimpl
    def register_routes(self, services: Services) -> list[APIRouter]:
        """``/metrics`` and ``/agent-scheduler/v1``."""
        from latentd_operations.agent_scheduler import router as scheduler_router
        from latentd_operations.metrics import Metrics, router
        from latentd_operations.tasks import Tasks
        from latentd_operations.timelines import Timelines
        from latentd_operations.webhooks import Webhooks

        self._webhooks = Webhooks(services)
        self._metrics = Metrics(services, self._webhooks)
        self._tasks = Tasks(services)
        self._timelines = Timelines()
        return [router(self._metrics), scheduler_router(services, self._tasks, self._webhooks)]

    @hookimpl
    def startup(self, services: Services) -> None:
        """Begin to deliver, and to make spans if the environment asks for them."""
        from latentd_operations.telemetry import start_tracing

        if self._webhooks is not None:
            self._webhooks.start()
        if services.serves_http:
            self._tracing = start_tracing(services)

    @hookimpl
    def shutdown(self, services: Services) -> None:
        """Deliver for some seconds what is left."""
        if self._webhooks is None or self._webhooks.services is not services:
            return
        self._webhooks.close()
        if self._tracing is not None:
            self._tracing.close()

    @hookimpl
    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue]) -> None:
        """Count, make spans, and tell receivers of ends."""
        if self._metrics is None or self._webhooks is None or self._tasks is None or self._timelines is None:
            return
        timeline = self._timelines.follow(job_id, event, data)
        self._metrics.job_event(job_id, event, data, timeline)
        self._webhooks.job_event(job_id, event, data, self._tasks.callback_of(job_id))
        if self._tracing is not None:
            self._tracing.job_event(job_id, event, data, timeline)

    @hookimpl
    def request_begun(self, request: Request) -> None:
        """Remember the request, in case it queues a job."""
        if self._tracing is not None:
            self._tracing.request_begun(request)

    @hookimpl
    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count, and end the request's span."""
        if self._metrics is not None:
            self._metrics.request_done(method, route, status, seconds)
        if self._tracing is not None:
            self._tracing.request_done(route, status)


plugin = Operations()
