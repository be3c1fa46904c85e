"""Traces of the shop: exporter, sampler and the spans of HTTP requests. Imported only where tracing is on; needs the extra `telemetry`.

    PARCOMOLO_TRACING=otlp                          exporter, endpoint and sampler as the OTEL_* variables say (default http://localhost:4318)
    PARCOMOLO_TRACING=http://collector:4318         that collector, over OTLP/HTTP

A request that brings a `traceparent` goes on with its trace, and with its sender's decision whether to record it.

Neighbours: `bootstrap` sets it up; the toolkit's `Telemetry` makes the spans behind a request.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parcomolo.web.endpoint import Answer, Endpoint

OTLP = "otlp"
TRACES = "/v1/traces"
_context = TraceContextTextMapPropagator()


def provider_of(address: str) -> TracerProvider:
    """Return what makes and exports spans.

    Args:
        address: `otlp`, or the address of a collector.
    """
    endpoint = None if address == OTLP else address.rstrip("/").removesuffix(TRACES) + TRACES
    names = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "parcomolo"}
    provider = TracerProvider(resource=Resource.create(names))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider


class RequestSpans:
    """Makes a span per HTTP request, under which everything runs that the request causes.

    Args:
        provider: of tracers.
    """

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = trace.get_tracer("parcomolo", tracer_provider=provider)

    async def serve(self, endpoint: Endpoint, headers: list[tuple[bytes, bytes]], answering: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in {b"traceparent", b"tracestate"}}
        attributes: dict[str, Any] = {"http.request.method": endpoint.method, "http.route": endpoint.path}
        with self._tracer.start_as_current_span(
            f"{endpoint.method} {endpoint.path}", _context.extract(carrier), SpanKind.SERVER, attributes
        ) as span:
            answer = await answering()
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            return answer


__all__ = ["OTLP", "RequestSpans", "provider_of"]
