"""OpenTelemetry: spans for what an application does. Needs the extra `telemetry`, which is OpenTelemetry's API and nothing else.

    from millrace.telemetry import Telemetry

    app = Application("shop", services, engine=...)
    app.tracing = Telemetry()                     # the provider that is set up globally, or Telemetry(provider)

Names and attributes follow OpenTelemetry's semantic conventions for messaging (1.36, status "development"):

    execute <command>     INTERNAL   a command, until its commit is durable; child of what runs in the caller's context
    process <group>       CONSUMER   a turn: root of a trace of its own, with a link to each sampled message
    process <topic>       CONSUMER   one sampled message in that turn, until the commit; child of the message's trace, linked to the turn
    call <function>       CLIENT     an activity; child of the message's trace, current while it runs, for its HTTP client's spans
    send <service>        PRODUCER   an append of a relay, with a link to each sampled message; child of the trace where it is one message's

Batches have many causes, so they have links; only a message has a parent. Messages that are not sampled cost a look at the end of their
`traceparent`. Where the embedded log copies hundreds of rows in SQL there is no `send`, and the trace is in their bytes all the same.

Spans carry ids, topics, partitions, names and types of errors; never the content of a message or the text of an error.

Neighbours: `tracing` has the calls; an application's bootstrap sets up exporter and sampler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millrace.delivery import Delivery
from millrace.ports import JournalRow
from millrace.traceparent import is_sampled

T = TypeVar("T")
LINKS_MAX = 128
"""As many links as the SDK keeps of a span unless it is told otherwise."""
_MEMBER = b'"traceparent":"'


class _Trace(msgspec.Struct):
    """What is read of a message on its way to the log."""

    traceparent: str = ""


def to_text(context: SpanContext) -> str:
    """Return a span's context as `traceparent`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else ""


def from_text(text: str) -> SpanContext:
    """Return the context that a well-formed `traceparent` names."""
    _, number, span, flags = text.split("-")
    return SpanContext(int(number, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _under(text: str) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(from_text(text)), Context())


class Telemetry:
    """Makes spans; see the module.

    Args:
        provider: of tracers; None for the one that is set up globally.
        system: `messaging.system` of the log.
    """

    def __init__(self, provider: trace.TracerProvider | None = None, *, system: str = "millrace") -> None:
        self._tracer = trace.get_tracer("millrace", tracer_provider=provider)
        self._system = system

    def attributes(self, operation: str, kind: str, **others: Any) -> dict[str, Any]:
        """Return the attributes of a span; `others` are written with `_` for `.`."""
        named = {f"messaging.{name.replace('__', '.')}": value for name, value in others.items()}
        return {"messaging.system": self._system, "messaging.operation.name": operation, "messaging.operation.type": kind, **named}

    @contextmanager
    def executing(self, command: str, *, service: str, key: str) -> Generator[str]:
        """See `tracing.Tracing`."""
        attributes = {"millrace.service": service, "millrace.command": command, "messaging.message.conversation_id": key}
        with self._tracer.start_as_current_span(
            f"execute {command}", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield to_text(span.get_span_context())
            except BaseException as error:
                _fail(span, error)
                raise

    def turn(self, group: str, deliveries: Sequence[Delivery]) -> TurnTrace | None:
        """See `tracing.Tracing`."""
        sampled = [delivery for delivery in deliveries if is_sampled(delivery.envelope.traceparent)]
        return TurnTrace(self, self._tracer, group, sampled) if sampled else None

    async def calling(self, group: str, delivery: Delivery, call: Awaitable[T]) -> T:
        """See `tracing.Tracing`."""
        text = delivery.envelope.traceparent
        if not isinstance(text, str) or not is_sampled(text):
            return await call
        span = self._tracer.start_span(
            f"call {delivery.pattern.name}",
            _under(text),
            SpanKind.CLIENT,
            {"messaging.consumer.group.name": group, "messaging.message.id": delivery.id, "millrace.attempt": delivery.attempt},
        )
        delivery.envelope.traceparent = to_text(span.get_span_context())
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                return await call
            except BaseException as error:
                _fail(span, error)
                raise

    async def publishing(self, service: str, rows: Sequence[JournalRow], appending: Awaitable[T]) -> T:
        """See `tracing.Tracing`."""
        traced = [text for row in rows if _MEMBER in row[4] and is_sampled(text := _trace_of(row[4]))]
        if not traced:
            return await appending
        topics = {row[1] for row in rows}
        attributes = self.attributes("send", "send", batch__message_count=len(rows))
        if len(topics) == 1:
            attributes["messaging.destination.name"] = next(iter(topics))
        span = self._tracer.start_span(
            f"send {service}",
            _under(traced[0]) if len(set(traced)) == 1 else Context(),
            SpanKind.PRODUCER,
            attributes,
            [Link(from_text(text)) for text in traced[:LINKS_MAX]],
        )
        try:
            return await appending
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()


class TurnTrace:
    """The spans of one turn; see `tracing.TurnSpans`."""

    def __init__(self, telemetry: Telemetry, tracer: trace.Tracer, group: str, sampled: Sequence[Delivery]) -> None:
        links = [Link(from_text(str(delivery.envelope.traceparent))) for delivery in sampled[:LINKS_MAX]]
        count = telemetry.attributes("process", "process", consumer__group__name=group, batch__message_count=len(sampled))
        self._turn = tracer.start_span(f"process {group}", Context(), SpanKind.CONSUMER, count, links)
        self._link = Link(self._turn.get_span_context())
        self._spans: list[tuple[Delivery, str, Span]] = []
        for delivery in sampled:
            before = str(delivery.envelope.traceparent)
            span = tracer.start_span(
                f"process {delivery.topic}", _under(before), SpanKind.CONSUMER, _message(telemetry, group, delivery), [self._link]
            )
            delivery.envelope.traceparent = to_text(span.get_span_context())
            self._spans.append((delivery, before, span))

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """Mark the span of a message."""
        for each, _, span in self._spans:
            if each is delivery:
                _fail(span, error)

    def end(self) -> None:
        """End all spans."""
        for _, _, span in self._spans:
            span.end()
        self._turn.end()

    def forget(self) -> None:
        """End all spans as a try that came to nothing, and give the messages their traces back."""
        for delivery, before, span in self._spans:
            delivery.envelope.traceparent = before
            span.set_attribute("millrace.undone", value=True)
        self._turn.set_attribute("millrace.undone", value=True)
        self.end()


def _message(telemetry: Telemetry, group: str, delivery: Delivery) -> Mapping[str, Any]:
    return telemetry.attributes(
        "process",
        "process",
        destination__name=delivery.topic,
        destination__partition__id=str(delivery.partition),
        consumer__group__name=group,
        message__id=delivery.id,
        message__conversation_id=delivery.correlation_id,
    ) | {"millrace.message.type": delivery.envelope.type, "millrace.offset": delivery.offset, "millrace.attempt": delivery.attempt}


def _trace_of(value: bytes) -> str:
    try:
        return msgspec.json.decode(value, type=_Trace).traceparent
    except msgspec.MsgspecError:
        return ""


def _fail(span: Span, error: BaseException) -> None:
    """Mark a span by the type of an error; its text may hold what a message holds."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


__all__ = ["Telemetry", "TurnTrace"]
