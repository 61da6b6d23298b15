"""Whether traces are turned on, by OpenTelemetry's own environment variables. Its SDK is not imported before."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentd.api import NotConfigured, Services

if TYPE_CHECKING:
    from latentd_operations.tracing import Tracing

log = logging.getLogger(__name__)

EXTRA = "latentd-operations[otel]"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def exporters_wanted(environment: Mapping[str, str]) -> list[str]:
    """The exporters of spans that the environment names; none unless it turns tracing on.

    ``OTEL_TRACES_EXPORTER`` names them (``otlp``, ``console``, ``none``), separated by commas; an endpoint alone means
    ``otlp``. ``OTEL_SDK_DISABLED=true`` goes before both.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    names = [name.strip() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    if not names and any(environment.get(variable, "").strip() for variable in _ENDPOINTS):
        names = ["otlp"]
    return [name for name in names if name != "none"]


def start_tracing(services: Services) -> Tracing | None:
    """The spans of this server's jobs; None if nobody wants them, or if the log says why there are none."""
    names = exporters_wanted(os.environ)
    if not names:
        return None
    try:
        from latentd_operations.exporting import provider_of
        from latentd_operations.tracing import Tracing
    except ImportError as error:
        log.warning("no traces: OpenTelemetry is turned on, but cannot be imported (%s): install %s", error, EXTRA)
        return None
    try:
        return Tracing(provider_of(names), services)
    except NotConfigured as error:
        log.warning("no traces: %s; %s brings otlp (http/protobuf) and console", error, EXTRA)
    except Exception as error:  # a variable that an exporter cannot use takes neither metrics nor webhooks away
        log.warning("no traces: OpenTelemetry cannot be set up: %s", error)
    return None
