"""PLATFORM section 7: `/events` tells the facts as they come, resumable, with personal fields masked."""

from __future__ import annotations

import re

from tests.parcomolo.http.shop import Listener, Shop, messages_of


async def test_facts_come_as_they_happen(shop: Shop):
    """One CloudEvent per message; `retry:` is set; the end of the client ends the stream."""
    listener = Listener(shop.asgi, "/events?topics=orders,payments")
    await listener.until("retry: ")
    order_id = await shop.completed()
    await listener.until("parcomolo.orders.order-completed.v1")
    events = [event for _, event in messages_of(listener.text)]
    assert {event["source"] for event in events} == {"/parcomolo/orders", "/parcomolo/payments"}
    assert all(event["specversion"] == "1.0" and event["partitionkey"] == order_id for event in events)
    await listener.leave()
    assert listener.status == 200


async def test_personal_fields_are_masked(shop: Shop):
    """The token and the address; everything else is as on the topic."""
    await shop.place(token="tok_declined", ship_to={"name": "Ada Lovelace"})
    await shop.settled()
    listener = Listener(shop.asgi, "/events?topics=orders&after=start")
    text = await listener.until("order-rejected")
    assert "tok_declined" not in text
    assert "Lovelace" not in text
    [placed] = [event for _, event in messages_of(text) if "order-placed" in event["type"]]
    assert (placed["data"]["payment_token"], placed["data"]["ship_to"]) == ("***", "***")
    assert placed["data"]["customer_id"] == "ada"
    await listener.leave()


async def test_a_stream_resumes_right_behind_any_message(shop: Shop):
    """By `Last-Event-ID`, which is preferred to `after`: nothing is missed, nothing comes twice."""
    for _ in range(3):
        await shop.completed()
    whole = Listener(shop.asgi, "/events?topics=orders&after=start")
    messages = messages_of(await whole.until("order-completed", times=3))
    await whole.leave()
    for at in range(0, len(messages) - 1, 2):
        cursor = messages[at][0].encode()
        rest = Listener(shop.asgi, "/events?topics=orders&after=start", (b"last-event-id", cursor))
        expected = [event["id"] for _, event in messages[at + 1 :]]
        text = await rest.until("data: ", times=len(expected))
        assert [event["id"] for _, event in messages_of(text)] == expected
        await rest.leave()


async def test_a_cursor_of_another_installation_is_told(shop: Shop):
    """An event `reset`, and the stream goes on from now."""
    listener = Listener(shop.asgi, "/events?topics=orders&after=orders/0=999")
    await listener.until("event: reset")
    await shop.place()
    await listener.until("order-placed")
    await listener.leave()


async def test_unknown_topics_and_malformed_cursors_are_400(shop: Shop):
    """Internal topics are nobody's business either."""
    for query, kind in (
        ("topics=nothing", "unknown-topic"),
        ("topics=internal.payments", "unknown-topic"),
        ("after=x", "malformed-cursor"),
    ):
        answer = await shop.http.get(f"/events?{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, f"/problems/{kind}")


async def test_an_unknown_topic_is_told_what_may_be_asked_for(shop: Shop):
    """Public topics only: every one of them is answered."""
    detail = (await shop.http.get("/events?topics=bogus")).json()["detail"]
    assert "internal." not in detail
    offered = re.findall(r"'([a-z.]+)'", detail)[1:]
    assert {"orders", "inventory", "payments", "shipping"} <= set(offered)
    assert (await shop.http.head(f"/events?topics={','.join(offered)}")).status_code == 200


async def test_an_idle_stream_is_commented(shop: Shop, monkeypatch):
    """So that proxies and clients know it lives."""
    monkeypatch.setattr("parcomolo.web.events.COMMENT_EVERY_S", 0.01)
    listener = Listener(shop.asgi, "/events?topics=orders")
    await listener.until(": still here", times=2)
    await listener.leave()


async def test_streams_end_when_the_server_stops(shop: Shop):
    """Those that are open, and those that come too late."""
    listener = Listener(shop.asgi, "/events")
    await listener.until("retry: ")
    shop.streams.close()
    await listener.ended()
    late = Listener(shop.asgi, "/events")
    await late.ended()
