"""PLATFORM section 3: what cannot be read or is wrong is told as a problem, by a stable type, and never as a stack trace."""

from __future__ import annotations

import json

import pytest

from millrace import Overloaded, Rejected, StoreUnavailable
from parcomolo.web.problems import refusal
from tests.parcomolo.http.shop import PROBLEM, Shop, request

REASONS = (
    "last_line",
    "not_in_order",
    "more_than_ordered",
    "checkout_started",
    "already_shipped",
    "already_delivered",
    "not_shipped",
    "cancellation_already_requested",
    *(f"already_{status}" for status in ("cancelled", "rejected", "expired", "completed")),
    *(f"order_{status}" for status in ("exists", "cancelling", "cancelled", "rejected", "expired", "confirmed", "completed")),
)
GOOD = request(("cheese", 1))


def told(answer, status: int, kind: str) -> dict:
    """Check that an answer is this problem, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"/problems/{kind}", status)
    assert problem["title"]
    assert "Traceback" not in answer.text
    return problem


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"customer_id": "a\xff"}', b'{"a":' * 100_000, b"[" * 100_000, b'{"customer_id": "\\ud800"}'],
    ids=["empty", "cut", "no JSON", "no UTF-8", "deep", "deep lists", "half a character"],
)
async def test_malformed_json_is_400(shop: Shop, body):
    """Whatever is wrong with it."""
    told(await shop.http.post("/api/orders", content=body), 400, "malformed-json")


async def test_a_number_that_no_computer_holds_is_422(shop: Shop):
    """The decoder does not say where it stands, so it is the body that is wrong."""
    body = json.dumps(GOOD | {"review_seconds": "?"}).replace('"?"', "1e400")
    problem = told(await shop.http.post("/api/orders", content=body), 422, "invalid-field")
    assert (problem["field"], problem["detail"]) == ("body", "body: Number out of range")


@pytest.mark.parametrize(
    "change, field",
    [
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": "  "}, "customer_id"),
        ({"customer_id": None}, "customer_id"),
        ({"customer_id": "a\u0000b"}, "customer_id"),
        ({"customer_id": "x" * 201}, "customer_id"),
        ({"lines": []}, "lines"),
        ({"lines": [{"sku": "cheese", "quantity": 1}] * 101}, "lines"),
        ({"lines": [{"sku": "cheese", "quantity": 0}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": -1}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": 1.5}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": "1"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": True}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": 10**30}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "cheese", "quantity": 1}, {"quantity": 1}]}, "lines[1].sku"),
        ({"payment": {}}, "payment.token"),
        ({"payment": "tok_ok"}, "payment"),
        ({"order_id": "nonsense"}, "order_id"),
        ({"review_seconds": -1}, "review_seconds"),
        ({"review_seconds": 1e300}, "review_seconds"),
        ({"ship_to": {}}, "ship_to.name"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_wrong_field_is_422_and_named(shop: Shop, change, field):
    """By its path."""
    problem = told(await shop.http.post("/api/orders", json={**GOOD, **change}), 422, "invalid-field")
    assert problem["field"] == field
    assert field in problem["detail"]


@pytest.mark.parametrize("body", ["[]", "1", "null", '"text"'])
async def test_json_of_another_kind_is_422(shop: Shop, body):
    """An object is expected, and what is wrong has a name: the whole body."""
    problem = told(await shop.http.post("/api/orders", content=body), 422, "invalid-field")
    assert problem["field"] == "body"
    assert problem["detail"].startswith("body: Expected `object`")


@pytest.mark.parametrize(
    "change, field",
    [
        ({"customer_id": "  "}, "customer_id"),
        ({"customer_id": "a\nb"}, "customer_id"),
        ({"lines": [{"sku": "a b", "quantity": 1}]}, "lines[0].sku"),
    ],
)
async def test_what_is_allowed_is_told_in_words(shop: Shop, change, field):
    """No regular expression is shown to people."""
    problem = told(await shop.http.post("/api/orders", json={**GOOD, **change}), 422, "invalid-field")
    assert (problem["field"], "regex" in problem["detail"]) == (field, False)
    assert problem["detail"].startswith(f"{field}: must not ")
    assert "line breaks" in problem["detail"]


@pytest.mark.parametrize("reason", REASONS)
def test_refusals_are_whole_sentences(reason):
    """The detail says to people why not; `reason` stays the word for programs."""
    problem = refusal(Rejected(reason, order_id="o1"))
    assert problem.more["reason"] == reason
    assert problem.detail != f"{reason.replace('_', ' ').capitalize()}."
    assert problem.detail.endswith(".")
    assert len(problem.detail.split()) > 4


async def test_a_body_above_1_mib_is_413(shop: Shop):
    """Up to 8 MiB are read and dropped first; above that the connection is closed."""

    async def chunks(count: int):
        for _ in range(count):
            yield b" " * (1 << 20)

    fits = json.dumps(GOOD).encode().ljust(1 << 20)
    assert (await shop.http.post("/api/orders", content=fits)).status_code == 201
    for path in ("/api/orders", "/api/cancelOrder", "/api/stock/cheese/adjust"):
        told(await shop.http.post(path, content=fits + b" "), 413, "body-too-large")
    answer = await shop.http.post("/api/orders", content=chunks(7))
    told(answer, 413, "body-too-large")
    assert "connection" not in answer.headers
    answer = await shop.http.post("/api/orders", content=chunks(9))
    told(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"


async def test_an_unknown_path_is_404_and_a_wrong_method_405(shop: Shop):
    """Problems too; 405 says what would be right."""
    told(await shop.http.get("/api/nothing"), 404, "unknown-path")
    answer = await shop.http.put("/api/orders", json=GOOD)
    told(answer, 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


async def test_pages_of_other_sites_cannot_change_anything(shop: Shop):
    """A browser says where a request comes from; what another site sends is refused."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    told(await shop.http.post("/api/orders", json=GOOD, headers=headers), 403, "cross-site")


@pytest.mark.parametrize("origin", ["http://evil.example", "https://shop.evil.example", "http://shop:81", "null", "", "shop"])
async def test_an_origin_that_is_not_the_host_is_another_site(shop: Shop, origin):
    """Every request that changes something, by API or form, is refused before anything happens; looking is free."""
    headers = {"Origin": origin}
    told(await shop.http.post("/api/orders", json=GOOD, headers=headers), 403, "cross-site")
    told(await shop.http.delete("/api/orders/01a1fef5-6e1c-7222-9a40-255a7797ff4e/lines/cheese", headers=headers), 403, "cross-site")
    assert (await shop.http.post("/buy", data={"sku": "cheese"}, headers=headers)).status_code == 403
    assert (await shop.get("/api/orders", headers=headers))["items"] == []


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://shop"}, {"Origin": "https://SHOP", "Sec-Fetch-Site": "same-origin"}])
async def test_our_own_pages_and_programs_may(shop: Shop, headers):
    """The scheme does not count, and who sends no `Origin` at all is no page."""
    assert (await shop.http.post("/api/orders", json=GOOD, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    "error, status, kind",
    [
        (Overloaded("orders", waiting=4096), 429, "overloaded"),
        (StoreUnavailable("orders", reason="full", detail="/secret/place"), 503, "unavailable"),
        (StoreUnavailable("orders", reason="read_only", detail="/secret/place"), 503, "unavailable"),
        (ZeroDivisionError("inside"), 500, "internal"),
    ],
)
async def test_what_fails_inside_is_told_without_the_inside(shop: Shop, monkeypatch, error, status, kind):
    """Full queues and stores say when to come back; surprises go to the log."""

    async def fail(*_, **__):
        raise error

    monkeypatch.setattr(shop.app, "execute", fail)
    answer = await shop.http.post("/api/orders", json=GOOD)
    told(answer, status, kind)
    assert "secret" not in answer.text
    assert "inside" not in answer.text.replace("went wrong", "")
    assert status == 500 or int(answer.headers["Retry-After"]) >= 1


async def test_head_is_a_get_without_a_body(shop: Shop):
    """For monitors and curious people."""
    answer = await shop.http.head("/api/stock")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
