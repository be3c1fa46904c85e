"""Spans of what goes wrong, and how a trace is carried."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from millrace.delivery import Context
from millrace.serialization import Envelope, open_envelope, seal
from millrace.telemetry import Telemetry
from millrace.testing.conformance.kit import kit_of
from millrace.testing.conformance.lab import Lab
from millrace.testing.conformance.sample import Add, Added, caller, counter, teller
from millrace.traceparent import apart, behind, is_sampled

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_envelopes_without_a_trace_are_what_they_were() -> None:
    """No member is added; one that is there comes back; null counts as none."""
    plain = seal(Envelope("1", "/x", "t"))
    assert b"traceparent" not in plain
    assert open_envelope(seal(Envelope("1", "/x", "t", traceparent=TRACE))).traceparent == TRACE
    assert not is_sampled(open_envelope(b'{"specversion":"1.0","id":"1","source":"/x","type":"t","traceparent":null}').traceparent)


@pytest.mark.parametrize("conversation", ["", "o1", "a\tb", "tab\t"])
def test_a_timer_keeps_trace_and_conversation_apart(conversation: str) -> None:
    """What was put together comes apart; a conversation without a trace is what it was; what is no trace is not put there."""
    assert apart(behind(conversation, TRACE)) == (conversation, TRACE)
    assert apart(behind(conversation, msgspec.UNSET)) == (conversation, msgspec.UNSET)
    assert behind(conversation, "junk") == conversation


@pytest.mark.parametrize("text", [None, "", "junk", TRACE[:-2] + "00", TRACE[:-2] + "zz", TRACE.upper()])
def test_only_a_well_formed_sampled_trace_is_recorded(text: str | None) -> None:
    """Whatever a foreign producer writes there makes no span and no failure."""
    assert not is_sampled(text)
    assert is_sampled(TRACE)


async def test_failures_are_marked_by_type(tmp_path: Path) -> None:
    """A failed try, a retried transaction and a failed activity have spans with the error's type; its text is in none."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    kit = kit_of("sqlite", tmp_path)
    async with Lab(kit) as lab:

        def fail(event: Added, context: Context) -> None:
            if context.attempt == 1:
                raise ArithmeticError("Ada")

        async def fail_outside(event: Added, context: Context) -> None:
            if context.attempt == 1:
                raise OSError("Ada")

        lab.behaviour.count, lab.behaviour.call = fail, fail_outside
        app = lab.new([teller(), counter(lab.behaviour), caller(lab.behaviour)])
        app.tracing = Telemetry(provider)
        await lab.run(app, app.start)
        await lab.settled()
        kit.faults.fail_next("counter")
        await app.execute(Add(name="a"))
        await lab.settled()
    spans = exporter.get_finished_spans()
    assert "Ada" not in "".join(span.to_json() for span in spans)
    failed = {(span.name, span.attributes["error.type"]) for span in spans if span.status.status_code is StatusCode.ERROR}
    assert {("process tally", "ArithmeticError"), ("call call", "OSError")} <= failed
    assert any(span.attributes.get("millrace.undone") for span in spans)
    (execute,) = [span for span in spans if span.name == "execute add"]
    (trace,) = {span.get_span_context().trace_id for span in spans if span.name in {"process tally", "call call", "process counts"}}
    assert trace == execute.get_span_context().trace_id
    tries = [span for span in spans if span.attributes.get("messaging.consumer.group.name") == "counter.handlers" and span.parent]
    assert {span.parent.span_id for span in tries} == {execute.get_span_context().span_id}, "a try that was undone is nobody's parent"
