"""How spans leave the process: the exporters that OpenTelemetry's variables ask for, each with a bounded queue."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from importlib.metadata import entry_points, version

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from latentd.api import NotConfigured

log = logging.getLogger(__name__)

_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def provider_of(names: Sequence[str]) -> TracerProvider:
    """What makes spans and hands them to the exporters of these names, in batches, on threads of their own.

    :raises NotConfigured: one is not installed. :raises ValueError: a variable has a value of no use.
    """
    made = [(name, exporter_of(name)) for name in names]
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    for name, exporter in made:
        provider.add_span_processor(BatchSpanProcessor(QuietExporter(name, exporter)))
    return provider


class QuietExporter(SpanExporter):
    """An exporter of which the log says once that it fails, and once that it works again.

    What the exporter itself logs at every try is kept from the log; the first of it is the reason that is given.
    """

    def __init__(self, name: str, exporter: SpanExporter) -> None:
        self._name = name
        self._exporter = exporter
        self._failing = False
        self._reason = ""
        self._thread: int | None = None
        logging.getLogger(type(exporter).__module__).addFilter(self._capture)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Deliver; on a thread of its own."""
        self._reason, self._thread = "", threading.get_ident()
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # whatever an exporter raises
            self._reason = f"{type(error).__name__}: {error}"
            result = SpanExportResult.FAILURE
        finally:
            self._thread = None
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("spans cannot be delivered by %s and are lost until they can: %s", self._name, self._reason)
        elif self._failing and not failing:
            log.warning("spans are delivered by %s again", self._name)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        """Give up what is being tried."""
        self._exporter.shutdown()
        logging.getLogger(type(self._exporter).__module__).removeFilter(self._capture)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what the exporter itself keeps."""
        return self._exporter.force_flush(timeout_millis)

    def _capture(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.WARNING:
            self._reason = self._reason or record.getMessage()
        return False


def exporter_of(name: str) -> SpanExporter:
    """The exporter that an installed package offers under this name.

    :raises NotConfigured: none does.
    """
    offered = name
    if name == "otlp":
        chosen = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        offered = _PROTOCOLS.get(chosen or "http/protobuf", name)
    for found in entry_points(group="opentelemetry_traces_exporter", name=offered):
        made: SpanExporter = found.load()()
        return made
    raise NotConfigured(f"no exporter {offered!r} is installed")


def _resource() -> Resource:
    """What the variables say of this service; its name is latentd unless they give another."""
    given = Resource.create()
    own = Resource({SERVICE_VERSION: version("latentd")})
    if str(given.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        return given.merge(own).merge(Resource({SERVICE_NAME: "latentd"}))
    return own.merge(given)
