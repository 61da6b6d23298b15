"""Spans of jobs, and of the requests that queue them, through OpenTelemetry's SDK.

No attribute holds a prompt, a key or a request's path; the job's id is the only text that a client may have chosen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from latentd.api import JsonValue, Services, job_of
from latentd_operations.metrics import METHODS
from latentd_operations.results import drawn
from latentd_operations.timelines import ENDS, Timeline

if TYPE_CHECKING:
    from fastapi import Request

log = logging.getLogger(__name__)

#: Seconds that the server's end waits for spans to be delivered.
CLOSING = 3.0
#: Spans of jobs that are open at once; a queue that is at its bound has fewer jobs.
_OPEN = 10_000
#: Numbers that generations show with their jobs.
_NUMBERS = ("width", "height", "steps", "images")


@dataclass(slots=True, eq=False)
class _IncomingRequest:
    """A request: when it came in, Unix time in nanoseconds, and its span once it has queued a job."""

    method: str
    began: int
    headers: Mapping[str, str]
    span: Span | None = None


_REQUEST: ContextVar[_IncomingRequest | None] = ContextVar("latentd_operations_request", default=None)


class Tracing:
    """Makes the spans of one server, and hands them to threads that deliver them.

    A job's span is a child of its request's, and that of the caller's span if the request has the header
    ``traceparent``. Requests that queue nothing have no span. Where something else makes spans of requests in this
    process, such as FastAPI itself or ``opentelemetry-instrument``, jobs are below those.
    """

    def __init__(self, provider: TracerProvider, services: Services) -> None:
        self._provider = provider
        self._services = services
        self._tracer: Tracer = provider.get_tracer("latentd", version("latentd"))
        self._jobs: OrderedDict[str, tuple[float, Span]] = OrderedDict()
        self._lock = threading.RLock()
        self._handlers = list(logging.getLogger().handlers)
        for handler in self._handlers:
            handler.addFilter(self._name_trace)

    # --- requests ----------------------------------------------------------------------------------------------------

    def request_begun(self, request: Request) -> None:
        """Remember a request, in case it queues a job."""
        _REQUEST.set(_IncomingRequest(request.method, time.time_ns(), request.headers))

    def request_done(self, route: str, status: int) -> None:
        """End the span of a request that has queued a job."""
        incoming = _REQUEST.get()
        if incoming is None or incoming.span is None:
            return
        span = incoming.span
        span.update_name(f"{_known(incoming.method)} {route}".strip())
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        span.end()

    def _span_of(self, incoming: _IncomingRequest) -> Span:
        if incoming.span is None:
            method = _known(incoming.method)
            incoming.span = self._tracer.start_span(
                method,
                context=extract(incoming.headers),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": method},
                start_time=incoming.began,
            )
        return incoming.span

    # --- jobs --------------------------------------------------------------------------------------------------------

    def job_event(self, job_id: str, event: str, data: Mapping[str, JsonValue], timeline: Timeline) -> None:
        """Begin a job's span where its request queues it; make its stages and end it with the job."""
        if event == "queued":
            incoming = _REQUEST.get()
            if incoming is not None and data["finished"] is None:
                self._queued(job_id, data, timeline, incoming)
        elif event in ENDS:
            with self._lock:
                known = self._jobs.get(job_id)
                # A client may use an id again once its job has ended.
                if known is not None and known[0] == timeline.created:
                    del self._jobs[job_id]
                else:
                    known = None
            self._end(job_id, event, data, timeline, self._begin(job_id, data, None) if known is None else known[1])

    def _queued(
        self, job_id: str, data: Mapping[str, JsonValue], timeline: Timeline, incoming: _IncomingRequest
    ) -> None:
        with self._lock:
            known = self._jobs.get(job_id)
            if known is not None and known[0] == timeline.created:
                return
            current = get_current_span()
            request = current if current.get_span_context().is_valid else self._span_of(incoming)
            self._jobs[job_id] = timeline.created, self._begin(job_id, data, request)
            if len(self._jobs) > _OPEN:
                self._jobs.popitem(last=False)

    def _begin(self, job_id: str, data: Mapping[str, JsonValue], request: Span | None) -> Span:
        kind = str(data["kind"])
        attributes: dict[str, str | int] = {"latentd.job.id": job_id, "latentd.job.kind": kind}
        for name in _NUMBERS:
            if isinstance(number := data["meta"].get(name), int):
                attributes[f"latentd.{name}"] = number
        parent = None if request is None else set_span_in_context(request)
        return self._tracer.start_span(
            f"job {kind}", context=parent, attributes=attributes, start_time=_nanoseconds(data["created"])
        )

    def _end(self, job_id: str, event: str, data: Mapping[str, JsonValue], timeline: Timeline, span: Span) -> None:
        if not span.is_recording():
            return
        here = set_span_in_context(span)
        for stage, begin, end in timeline.stages():
            child = self._tracer.start_span(stage, context=here, start_time=_nanoseconds(begin))
            child.end(_nanoseconds(end))
        span.set_attribute("latentd.job.state", event)
        if event == "completed":
            pictures, sampler = drawn(self._services, job_id)
            span.set_attribute("latentd.images", pictures)
            if sampler is not None:
                span.set_attribute("latentd.sampler", sampler)
        if event == "failed" and data["error"] is not None:
            kind = str(data["error"]["type"])
            span.set_attribute("error.type", kind)
            span.set_status(StatusCode.ERROR, kind)
        assert timeline.finished is not None
        span.end(_nanoseconds(timeline.finished))

    # --- the log -----------------------------------------------------------------------------------------------------

    def _name_trace(self, record: logging.LogRecord) -> bool:
        """Give the record the id of the trace that it belongs to; as a filter, on the thread that logs."""
        incoming = _REQUEST.get()
        span = None if incoming is None else incoming.span
        if span is None and (job_id := job_of(record)) is not None:
            with self._lock:
                span = self._jobs.get(job_id, (0.0, None))[1]
        if span is not None:
            record.trace_id = format_trace_id(span.get_span_context().trace_id)
        return True

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Deliver what is left, for some seconds at most."""
        for handler in self._handlers:
            handler.removeFilter(self._name_trace)
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(CLOSING)
        if closing.is_alive():
            log.warning("the last spans were not delivered within %.0f s", CLOSING)


def _known(method: str) -> str:
    return method if method in METHODS else "_OTHER"


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
