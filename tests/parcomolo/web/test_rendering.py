"""The pages as markup: complete without scripts, escaped, and free of inline code."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from parcomolo.web import presentation
from parcomolo.web.rendering import render

MARKUP = "<img src=x onerror=alert(1)>\"'</script>"
STATIC = Path(presentation.__file__).parent / "static"


def make_order(name: str = "Cola") -> dict[str, Any]:
    price = {"amount": 290, "currency": "EUR"}
    return {
        "order_id": "0192f0c4-6b1e-7a51-9f00-000000000001",
        "number": "P-1",
        "customer_id": name,
        "lines": [{"sku": "cola", "name": name, "quantity": 1, "unit_price": price}],
        "total": price,
        "ship_to": {"name": name},
        "status": "pending",
        "payment_status": "unpaid",
        "fulfilment_status": "unfulfilled",
        "reason": name,
        "placed_at": "2026-03-01T12:00:00Z",
        "version": 1,
        "timeline": [
            {
                "type": "parcomolo.orders.order-placed.v1",
                "at": "2026-03-01T12:00:00Z",
                "service": "orders",
                "text": name,
            }
        ],
    }


def make_product(name: str = "Cola") -> dict[str, Any]:
    price = {"amount": 290, "currency": "EUR"}
    return {"sku": name, "name": name, "description": name, "group": name, "unit_price": price, "available": 3}


PAGES: list[tuple[str, Mapping[str, Any]]] = [
    ("storefront.html", {"products": [make_product(MARKUP)], "problem": {"title": MARKUP, "detail": MARKUP}}),
    ("storefront.html", {"products": [make_product(MARKUP)], "chosen": {"customer_id": MARKUP, "sku": MARKUP}}),
    ("storefront.html", {"products": []}),
    (
        "orders.html",
        {"orders": [make_order(MARKUP)], "next": MARKUP, "cursor": MARKUP, "here": MARKUP, "after": MARKUP},
    ),
    ("orders.html", {"orders": []}),
    ("orders.html", {"orders": [], "status": "expired"}),
    ("order.html", {"order": make_order(MARKUP), "after": MARKUP}),
    ("order_fragment.html", {"order": make_order(MARKUP)}),
    ("error.html", {"problem": {"status": 404, "title": MARKUP, "detail": MARKUP}}),
    ("error.html", {}),
]


@pytest.mark.parametrize("name, context", PAGES)
def test_no_text_becomes_markup(name: str, context: Mapping[str, Any]) -> None:
    """A name with markup, wherever it comes in, is shown as text."""
    page = render(name, **context)
    assert "<img src=x" not in page
    assert "'</script>" not in page


@pytest.mark.parametrize("name, context", PAGES)
def test_pages_have_no_inline_code_or_style(name: str, context: Mapping[str, Any]) -> None:
    """A strict content security policy holds: scripts and styles come from files, handlers are not written in tags."""
    tags = re.findall(r"<[a-z](?:\"[^\"]*\"|[^>\"])*>", render(name, **context))
    names = [re.sub(r"\"[^\"]*\"", "", tag) for tag in tags]
    assert not [tag for tag in names if re.search(r"\s(on\w+|style)\s*=", tag) or tag.startswith("<style")]
    assert not [tag for tag in tags if tag.startswith("<script") and " src=" not in tag]


@pytest.mark.parametrize("name, context", PAGES)
def test_every_static_file_a_page_names_exists(name: str, context: Mapping[str, Any]) -> None:
    """No page makes a failing request, and none asks anybody else for anything."""
    page = render(name, **context)
    for path in re.findall(r"(?:src|href)=\"/static/([^\"]*)\"", page):
        assert STATIC.joinpath(path).is_file(), path
    assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page)


def test_every_drawing_is_known_and_every_known_one_drawn() -> None:
    """The list of pictures and the folder agree."""
    drawn = {file.stem for file in STATIC.joinpath("pictures").iterdir()}
    assert drawn == presentation.PICTURES | {"fallback"}


def test_every_icon_that_is_asked_for_is_drawn() -> None:
    """No status and no fact falls back to the plain dot."""
    tables = (presentation._STATUS, presentation._PAYMENT, presentation._FULFILMENT)
    asked = {row[1] for table in tables for row in table.values()} | {row[1] for row in presentation._FACTS.values()}
    source = STATIC.parent.joinpath("templates", "_icons.html").read_text()
    drawn = set(re.findall(r"^  \"(\w+)\":", source, re.MULTILINE))
    assert asked <= drawn


def test_only_facts_that_happened_are_marked() -> None:
    """Each fact carries its short wire name; the steps still to come carry none."""
    page = render("order_fragment.html", order=make_order())
    assert re.findall(r"data-fact=\"([^\"]*)\"", page) == ["order-placed"]
    assert page.count('class="event step"') == 8


def test_the_page_holds_the_same_body_as_its_fragment() -> None:
    """What a script fetches again is what the first paint showed."""
    order = make_order()
    body = render("order_fragment.html", order=order).split()
    page = render("order.html", order=order, after="7")
    assert " ".join(body) in " ".join(page.replace("</article>", " </article>").split())
    assert 'data-after="7"' in page


def test_the_storefront_offers_every_outcome_of_a_payment() -> None:
    """Each token of the simulated provider can be chosen, and the first is chosen already."""
    page = render("storefront.html", products=[make_product()])
    assert re.findall(r"name=\"payment_token\" value=\"([^\"]*)\"( checked)?", page) == [
        (outcome.token, " checked" if outcome.token == "tok_ok" else "") for outcome in presentation.OUTCOMES
    ]
    assert 'action="/buy"' in page


def test_a_refused_form_keeps_what_was_typed() -> None:
    """After an error without scripts, buyer, quantity and outcome are still there."""
    chosen = {
        "sku": "Cola",
        "quantity": "0",
        "customer_id": "ada",
        "payment_token": "tok_declined",
        "shipping": "fails",
    }
    page = render("storefront.html", products=[make_product()], chosen=chosen, problem={"title": "No", "detail": "Not 0"})
    assert 'value="tok_declined" checked' in page
    assert 'value="fails" checked' in page
    assert 'value="ada"' in page
    assert 'name="quantity.Cola" value="0"' in page
    assert 'role="alert"' in page


def test_the_list_offers_what_is_possible_and_pages() -> None:
    """A pending order can be cancelled but not delivered, and the way to older orders is there."""
    page = render("orders.html", orders=[make_order()], next="abc", here="/orders?status=pending")
    order = make_order()["order_id"]
    assert f'action="/orders/{order}/cancel"' in page
    assert f'action="/orders/{order}/deliver"' not in page
    assert 'name="return_to" value="/orders?status=pending"' in page
    assert 'href="/orders?cursor=abc"' in page


def test_the_list_offers_what_can_be():
    """A filter per status that an order can have here."""
    found = re.findall(r'href="/orders\?status=(\w+)"', render("orders.html", orders=[]))
    assert found == ["pending", "on_hold", "confirmed", "completed", "cancelling", "cancelled", "rejected", "expired"]


def test_a_reason_is_asked_for_and_not_filled_in():
    """What stands in the empty field is an example and looks like one."""
    (field,) = re.findall(r'<input name="reason"[^>]*>', render("order.html", order=make_order()))
    assert 'placeholder="for example: ' in field
    assert "value=" not in field
    style = (STATIC / "css" / "controls.css").read_text(encoding="utf-8")
    (rule,) = re.findall(r"input::placeholder {([^}]*)}", style)
    assert "opacity: 0." in rule


@pytest.mark.parametrize(
    "status, payment, fulfilment, ended",
    [
        ("pending", "unpaid", "unfulfilled", False),
        ("cancelling", "paid", "reserved", False),
        ("completed", "paid", "shipped", False),
        ("completed", "paid", "delivered", True),
        ("cancelled", "refunded", "unfulfilled", True),
        ("cancelled", "paid", "unfulfilled", False),
        ("rejected", "failed", "unfulfilled", True),
        ("expired", "voided", "unfulfilled", True),
    ],
)
def test_a_page_says_that_an_order_has_ended_for_good(status: str, payment: str, fulfilment: str, ended: bool) -> None:
    """Then nothing is left to be followed; money that still has to go back is."""
    order = make_order() | {"status": status, "payment_status": payment, "fulfilment_status": fulfilment}
    assert ("data-ended" in render("order_fragment.html", order=order)) is ended
