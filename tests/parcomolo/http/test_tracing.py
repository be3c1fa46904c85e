"""One order is one trace: from the request through journal and log, an activity and a timer, to the last fact."""

from __future__ import annotations

import json
from collections import defaultdict

import httpx
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from millrace import ManualClock
from millrace.telemetry import Telemetry
from parcomolo.bootstrap import assemble
from parcomolo.configuration import configuration
from parcomolo.telemetry import RequestSpans
from parcomolo.web.assembly import web_application
from tests.parcomolo.http.shop import Shop, request
from tests.shop_places import settings_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}


async def traced(folder, headers: dict[str, str]) -> tuple[list[ReadableSpan], list[dict], str]:
    """Place an order with a shipping delay, let the time pass, and return spans, records of its topics, and its status."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    clock = ManualClock()
    config = configuration({"data": str(folder), "shipping-delay": "5", **settings_of(folder)})
    app = assemble(config, clock=clock)
    app.tracing = Telemetry(provider)
    async with app:
        asgi = web_application(app, services=config.services, spans=RequestSpans(provider))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://shop") as http:
            shop = Shop(app, asgi, http, clock)
            await shop.settled()
            exporter.clear()
            answer = await http.post("/api/orders", json=request(("cheese", 1)), headers=headers)
            order_id = answer.json()["order_id"]
            await shop.settled()
            await shop.later(6)
            status = (await shop.look(order_id))["status"]
            records = []
            for topic in [place for place in app.parts.feed.ends() if not place[0].startswith("__")]:
                for record in await app.parts.log.read(*topic, offset=0, limit=1000):
                    value = json.loads(record.value)
                    if value.get("correlationid") == order_id:
                        records.append(value)
    return list(exporter.get_finished_spans()), records, status


def number_of(span: ReadableSpan) -> str:
    """The trace a span belongs to."""
    return f"{span.get_span_context().trace_id:032x}"


async def test_one_order_is_one_trace(tmp_path):
    """The request's trace reaches every service, with an unbroken chain of parents, over a timer too; every record of it says so."""
    spans, records, status = await traced(tmp_path / "data", SAMPLED)
    assert status == "completed"
    mine = [span for span in spans if number_of(span) == TRACE]
    by_id = {span.get_span_context().span_id: span for span in mine}
    names = defaultdict(list)
    for span in mine:
        names[span.name].append(span)

    assert {"POST /api/orders", "execute place-order", "process orders", "process inventory", "process payments"} <= set(names)
    assert {"process internal.shipping", "call book", "process @timers", "process shipping"} <= set(names)
    groups = {span.attributes.get("messaging.consumer.group.name", "").partition(".")[0] for span in mine}
    assert {"inventory", "payments", "shipping", "orders", "reports"} <= groups
    for span in mine:
        assert span.parent is not None
        assert span.parent.span_id in by_id or f"{span.parent.span_id:016x}" == "b7ad6b7169203331", f"{span.name} hangs in the air"
        assert not any("ada" in str(value) for value in span.attributes.values()), "spans carry no content"
    assert records
    assert all(record["traceparent"].startswith(f"00-{TRACE}-") for record in records)

    turns = [span for span in spans if span.links and number_of(span) != TRACE and span.name.startswith("process ")]
    assert turns
    assert all(f"{link.context.trace_id:032x}" == TRACE for span in turns for link in span.links)


async def test_what_is_not_sampled_has_no_spans(tmp_path):
    """A sender's decision not to record holds for everything that follows, and travels with it."""
    spans, records, status = await traced(tmp_path / "data", UNSAMPLED)
    assert status == "completed"
    assert [span.name for span in spans if number_of(span) == TRACE] == []
    assert all(record["traceparent"].startswith(f"00-{TRACE}-") for record in records)
    assert {record["traceparent"][-2:] for record in records} == {"00"}


async def test_without_a_tracer_nothing_is_added(shop):
    """Records have the members that they had before there was tracing."""
    order = await shop.place()
    await shop.settled()
    (placed,) = [event for event in await shop.published("orders", "order-placed") if event["subject"] == order["order_id"]]
    assert "traceparent" not in placed
