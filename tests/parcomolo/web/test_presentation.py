"""What the pages show of an order, without any markup."""

from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Event
from parcomolo.contracts.money import Money
from parcomolo.orders.timeline import STORY
from parcomolo.web import presentation
from parcomolo.web.paging import Paging, paging, return_path
from parcomolo.web.presentation import Order, Product

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PAID = ("orders.order-placed", "inventory.stock-reserved", "payments.payment-succeeded")
SHIPPED = (*PAID, "orders.order-confirmed", "shipping.shipping-scheduled", "shipping.item-shipped")


def make_order(
    *facts: str,
    status: str = "pending",
    payment: str = "unpaid",
    parcel: str = "unfulfilled",
    reason: str | None = None,
) -> Order:
    timeline = [
        {
            "type": f"parcomolo.{fact}.v1",
            "at": f"2026-03-01T12:00:{second:02d}Z",
            "service": fact.split(".")[0],
            "text": "",
        }
        for second, fact in enumerate(facts)
    ]
    return cast(
        "Order",
        {
            "order_id": "o-1",
            "number": "P-1",
            "customer_id": "ada",
            "lines": [{"sku": "cola", "name": "Cola", "quantity": 3, "unit_price": {"amount": 290, "currency": "EUR"}}],
            "total": {"amount": 870, "currency": "EUR"},
            "ship_to": {"name": "Ada", "street": None, "city": "Bologna"},
            "status": status,
            "payment_status": payment,
            "fulfilment_status": parcel,
            "reason": reason,
            "placed_at": NOON,
            "version": 1,
            "timeline": timeline,
        },
    )


def titles(order: Order) -> list[str]:
    return [step.title for step in presentation.steps_to_come(order)]


@pytest.mark.parametrize(
    "amount, currency, printed",
    [
        (1299, "EUR", "€12.99"),
        (5, "EUR", "€0.05"),
        (129900, "USD", "$1,299.00"),
        (-500, "GBP", "\N{MINUS SIGN}£5.00"),
        (1299, "CHF", "12.99 CHF"),
        (1299, "JPY", "¥1,299"),
        (1299, "KWD", "1.299 KWD"),
    ],
)
def test_money_is_printed_in_the_units_of_its_currency(amount: int, currency: str, printed: str) -> None:
    """Minor units become the currency's own decimals, with a symbol where there is a familiar one."""
    assert presentation.money({"amount": amount, "currency": currency}) == printed


STORY_OF = st.sampled_from(sorted(STORY, key=lambda cls: cls.__name__)).flatmap(st.from_type)


@given(fact=STORY_OF)
def test_a_fact_is_told_once(fact: Event) -> None:
    """Whatever a fact says: its title, then what is special about it; never the same again, and money as everywhere on the page."""
    name, sentence = STORY[type(fact)]
    order = make_order()
    order["timeline"] = [{"type": name, "at": NOON, "service": "orders", "text": sentence(fact)}]
    (entry,) = presentation.entries(order)
    assert sentence(fact).startswith((f"{entry.title}.", f"{entry.title}: "))
    assert not entry.text.startswith(entry.title)
    for field in ("total", "amount"):
        if isinstance(value := getattr(fact, field, None), Money) and name in {"order-placed", "payment-succeeded", "payment-refunded"}:
            assert presentation.money({"amount": value.amount, "currency": value.currency}) in entry.text


@pytest.mark.parametrize(
    "fact, text, shown",
    [
        ("order-confirmed", "Order confirmed.", ""),
        ("payment-succeeded", "Payment received: €13.98.", "€13.98."),
        ("order-rejected", "Order rejected: out of stock.", "Out of stock."),
        ("order-confirmed", "Somebody wrote this by hand.", "Somebody wrote this by hand."),
    ],
)
def test_a_title_is_not_repeated(fact: str, text: str, shown: str) -> None:
    """What the title says already is left out of the text beside it; any other text stays."""
    order = make_order()
    order["timeline"] = [{"type": fact, "at": NOON, "service": "orders", "text": text}]
    assert [entry.text for entry in presentation.entries(order)] == [shown]


@pytest.mark.parametrize("value", ["2026-03-01T13:00:00.250000+01:00", "2026-03-01T12:00:00.25Z", "2026-03-01T12:00:00.25"])
def test_a_moment_is_printed_in_utc(value: str) -> None:
    """Whatever zone a time comes in, the page shows UTC and a machine-readable form with microseconds."""
    moment = presentation.moment(value)
    assert (moment.iso, moment.day, moment.clock) == ("2026-03-01T12:00:00.250000Z", "1 Mar 2026", "12:00:00")
    assert moment.full == "1 Mar 2026, 12:00:00 UTC"


@pytest.mark.parametrize(
    "then, words",
    [
        ("2026-03-01T12:00:05Z", "just now"),
        ("2026-03-01T11:59:55Z", "just now"),
        ("2026-03-01T11:59:20Z", "40 s ago"),
        ("2026-03-01T11:57:30Z", "2 min ago"),
        ("2026-03-01T09:30:00Z", "2 h ago"),
        ("2026-02-25T12:00:00Z", "4 d ago"),
        ("2026-02-01T12:00:00Z", "1 Feb 2026"),
    ],
)
def test_ago_uses_the_largest_fitting_unit(then: str, words: str) -> None:
    """A time is told by distance up to a week and by its day after that; the future counts as now."""
    assert presentation.ago(then, NOON) == words


@pytest.mark.parametrize(
    "after, words",
    [
        ("12:00:00.042Z", "+42 ms"),
        ("12:00:00.9996Z", "+1.0 s"),
        ("12:00:03.14Z", "+3.1 s"),
        ("12:00:59.97Z", "+1 min 0 s"),
        ("12:02:05Z", "+2 min 5 s"),
        ("15:02:05Z", "+3 h 2 min"),
        ("12:00:00Z", ""),
        ("11:59:00Z", ""),
    ],
)
def test_gap_tells_how_much_later_a_fact_came(after: str, words: str) -> None:
    """The distance to the fact before is short to read; none is shown when times are equal or go backwards."""
    assert presentation.gap(NOON, f"2026-03-01T{after}") == words


def test_the_first_fact_has_no_gap() -> None:
    """There is nothing before the first fact to measure from."""
    assert presentation.gap(None, NOON) == ""


def test_a_pill_has_word_icon_and_tone() -> None:
    """A status is never shown by colour alone."""
    pill = presentation.pill("status", "on_hold")
    assert (pill.word, pill.icon, pill.tone) == ("On hold", "pause", "wait")


def test_an_unknown_status_is_still_readable() -> None:
    """A value that a later version adds is shown as words in a neutral tone."""
    pill = presentation.pill("payment", "partially_refunded")
    assert (pill.word, pill.tone) == ("Partially refunded", "idle")


def test_facts_carry_their_short_wire_name() -> None:
    """The page marks a fact by its wire name without context and version; an unknown one gets a readable title."""
    order = make_order("shipping.item-shipped", "orders.order-gift-wrapped")
    shipped, unknown = presentation.entries(order)
    assert (shipped.fact, shipped.title, shipped.gap) == ("item-shipped", "Shipped", "")
    assert (unknown.fact, unknown.title, unknown.gap) == ("order-gift-wrapped", "Order gift wrapped", "+1.0 s")
    assert presentation.short_name("item-shipped") == "item-shipped"


def test_a_new_order_has_the_whole_way_ahead() -> None:
    """After placing, every step up to delivery is still to come and only the next one is running."""
    steps = presentation.steps_to_come(make_order("orders.order-placed"))
    assert [step.title for step in steps] == [
        "Reserve stock",
        "Take payment",
        "Confirm the order",
        "Schedule shipping",
        "Ship",
        "Book out the stock",
        "Complete the order",
        "Deliver",
    ]
    assert [step.state for step in steps] == ["running"] + ["later"] * 7


def test_delivery_waits_for_a_person() -> None:
    """A completed order has one step left, which no service will do by itself."""
    done = (*SHIPPED, "inventory.stock-committed", "orders.order-completed")
    (step,) = presentation.steps_to_come(make_order(*done, status="completed", payment="paid", parcel="shipped"))
    assert (step.title, step.state) == ("Deliver", "waiting")


def test_a_declined_payment_that_is_tried_again_keeps_the_way_ahead() -> None:
    """A soft decline leaves the order unpaid, so payment is still the next step."""
    assert titles(make_order(*PAID[:2], "payments.payment-failed"))[0] == "Take payment"


def test_a_failed_payment_releases_and_rejects() -> None:
    """Once payment has failed for good the page announces the undo, not the rest of the way."""
    order = make_order(*PAID[:2], "payments.payment-failed", payment="failed")
    assert titles(order) == ["Release the stock", "Reject the order"]


def test_failed_shipping_undoes_payment_and_stock() -> None:
    """When no carrier can be found, money and stock go back before the order is rejected."""
    order = make_order(*PAID, "orders.order-confirmed", "shipping.shipping-failed", status="confirmed", payment="paid")
    assert titles(order) == ["Refund the payment", "Release the stock", "Reject the order"]


def test_cancelling_undoes_only_what_was_done() -> None:
    """An undo step that has happened, or whose step never did, is not announced."""
    order = make_order(*PAID, "payments.payment-refunded", status="cancelling", payment="refunded")
    assert titles(order) == ["Release the stock", "Cancel the order"]
    assert titles(make_order("orders.order-placed", status="cancelling")) == ["Cancel the order"]


def test_an_expired_reservation_is_not_released_again() -> None:
    """Stock that has lapsed is back already."""
    order = make_order(*PAID[:2], "inventory.reservation-expired", payment="failed")
    assert titles(order) == ["Reject the order"]


def test_cancelling_too_late_goes_on_to_delivery() -> None:
    """When the parcel has left, the cancellation will be refused and the order goes on."""
    order = make_order(*SHIPPED, status="cancelling", payment="paid", parcel="shipped")
    assert titles(order) == ["Refuse the cancellation", "Book out the stock", "Complete the order", "Deliver"]


def test_a_payment_that_was_called_off_has_not_failed() -> None:
    """The page says so in the title too, in the colour of what is undone."""
    order = make_order("payments.payment-failed")
    order["timeline"] = [{**order["timeline"][0], "text": "Payment called off: nothing was charged (order cancelled)."}]
    (entry,) = presentation.entries(order)
    assert (entry.fact, entry.title, entry.tone) == ("payment-failed", "Payment called off", "undo")
    assert entry.text == "Nothing was charged (order cancelled)."


def test_an_order_on_hold_waits_for_a_person() -> None:
    """The machine does nothing more, whatever has failed before: only its settlement is still to come, and then what that asks for."""
    order = make_order(*PAID, "shipping.shipping-failed", "orders.order-held", status="on_hold", payment="paid")
    (step,) = presentation.steps_to_come(order)
    assert (step.title, step.state) == ("Settle the order", "waiting")
    assert presentation.headline(order) == "On hold: somebody is looking after it."
    assert not presentation.has_ended(order)
    order["settling"] = "cancelled"
    assert titles(order) == ["Release the stock", "Cancel the order"]
    assert presentation.headline(order) == "On hold: it is about to be cancelled."
    order["settling"] = "completed"
    assert titles(order) == ["Book out the stock", "Complete the order"]
    order = make_order(*PAID, "orders.order-held", "orders.order-settlement-begun", status="on_hold", payment="paid")
    order["settling"] = "cancelled"
    assert titles(order) == ["Cancel shipping", "Release the stock", "Cancel the order"]


def test_an_order_that_was_settled_by_hand_waits_for_no_machine() -> None:
    """No refund and no parcel is announced that nobody has asked for; a parcel that has left still arrives."""
    held = (*PAID, "shipping.shipping-failed", "orders.order-held", "orders.order-settlement-begun")
    cancelled = make_order(*held, "inventory.stock-released", "orders.order-cancelled", status="cancelled", payment="paid")
    assert (titles(cancelled), presentation.has_ended(cancelled), presentation.headline(cancelled)) == ([], True, "Cancelled.")
    completed = make_order(
        *held, "inventory.stock-committed", "orders.order-completed", status="completed", payment="paid", parcel="reserved"
    )
    assert (titles(completed), presentation.has_ended(completed)) == ([], True)
    assert presentation.headline(completed) == "Completed: somebody has seen to it by hand."
    shipped = make_order(
        *SHIPPED, "inventory.stock-committed", "orders.order-held", "orders.order-completed", status="completed", parcel="shipped"
    )
    assert (titles(shipped), presentation.has_ended(shipped)) == (["Deliver"], False)


@pytest.mark.parametrize("status", ["cancelled", "rejected", "expired"])
def test_an_ended_order_has_nothing_ahead(status: str) -> None:
    """Grey steps disappear when an order has ended, unless money that came late still has to go back."""
    assert titles(make_order(*PAID[:1], status=status)) == []
    assert titles(make_order(*PAID, status=status, payment="paid")) == ["Refund the payment"]


@pytest.mark.parametrize(
    "status, parcel, cancel, deliver",
    [
        ("pending", "unfulfilled", True, False),
        ("on_hold", "reserved", False, False),
        ("on_hold", "shipped", False, True),
        ("confirmed", "scheduled", True, False),
        ("confirmed", "shipped", False, True),
        ("completed", "shipped", False, True),
        ("completed", "delivered", False, False),
        ("cancelling", "scheduled", False, False),
        ("cancelled", "unfulfilled", False, False),
        ("rejected", "unfulfilled", False, False),
        ("expired", "unfulfilled", False, False),
    ],
)
def test_buttons_are_offered_only_while_they_would_work(status: str, parcel: str, cancel: bool, deliver: bool) -> None:
    """Cancel ends with shipping or a decision, deliver begins with shipping and ends with delivery."""
    order = make_order(status=status, parcel=parcel)
    assert (presentation.can_cancel(order), presentation.can_deliver(order)) == (cancel, deliver)


@pytest.mark.parametrize(
    "order, sentence",
    [
        (make_order("orders.order-placed"), "We are reserving your items."),
        (make_order(*PAID[:2], parcel="reserved"), "We are confirming your payment."),
        (make_order(*PAID, payment="paid", parcel="reserved"), "Paid: we are confirming your order."),
        (make_order(*PAID[:2], payment="failed"), "Something went wrong: we are putting everything back."),
        (make_order(status="on_hold"), "On hold: somebody is looking after it."),
        (make_order(status="confirmed", parcel="reserved"), "Paid and confirmed: we are finding a carrier."),
        (make_order(status="confirmed", parcel="scheduled"), "Packed, and waiting for the carrier."),
        (make_order(status="completed", parcel="shipped"), "It is on its way to you."),
        (make_order(status="completed", parcel="delivered"), "Delivered. Enjoy!"),
        (make_order(status="cancelling"), "Cancelling: we are undoing what was done."),
        (make_order(status="cancelled"), "Cancelled."),
        (make_order(status="cancelled", payment="refunded"), "Cancelled, and your money is back."),
        (make_order(status="rejected", reason="out_of_stock"), "We could not take this order: not enough in stock."),
        (make_order(status="rejected"), "We could not take this order."),
        (make_order(status="expired"), "This order took too long and has lapsed."),
    ],
)
def test_the_headline_says_where_the_order_stands(order: Order, sentence: str) -> None:
    """Every state, also those in between, has an honest sentence."""
    assert presentation.headline(order) == sentence


def test_a_person_s_reason_is_kept_as_written() -> None:
    """Only the shop's own codes are put into words."""
    assert presentation.reason_text(make_order(reason="too_slow for me")) == "too_slow for me"


def test_present_prints_lines_address_and_count() -> None:
    """The page gets printed amounts per line and only the address lines that are filled in."""
    view = presentation.present(make_order("orders.order-placed"))
    (line,) = view.lines
    assert (line.unit, line.amount, view.items, view.total) == ("€2.90", "€8.70", "3 items", "€8.70")
    assert view.ship_to == ("Ada", "Bologna")


def test_an_order_of_a_list_has_no_timeline() -> None:
    """An order without timeline and address is presented all the same."""
    order = make_order()
    del order["timeline"]
    del order["ship_to"]
    view = presentation.present(order)
    assert (view.entries, view.ship_to) == ((), ())


def make_product(sku: str, group: str, available: int | None = None) -> Product:
    return {
        "sku": sku,
        "name": sku,
        "description": "",
        "group": group,
        "unit_price": {"amount": 1, "currency": "EUR"},
        "available": available,
    }


def test_groups_keep_the_order_of_the_catalogue() -> None:
    """Groups come in the order of their first product, and products in theirs."""
    products = [make_product("a", "sides"), make_product("b", "burgers"), make_product("c", "sides")]
    groups = presentation.grouped(products)
    assert [(group.title, [product["sku"] for product in group.products]) for group in groups] == [
        ("Sides", ["a", "c"]),
        ("Burgers", ["b"]),
    ]


@pytest.mark.parametrize(
    "available, note",
    [(None, ("", "idle")), (0, ("Sold out", "bad")), (10, ("Only 10 left", "wait")), (11, ("11 left", "idle"))],
)
def test_the_stock_note_gets_louder_as_stock_runs_out(available: int | None, note: tuple[str, str]) -> None:
    """Unknown stock says nothing, little stock warns, none is said in words."""
    assert presentation.stock_note(make_product("a", "g", available)) == note


def test_a_product_without_drawing_shows_the_shared_one() -> None:
    """A sku never becomes part of a path unless it is known."""
    assert presentation.picture("cheese") == "pictures/cheese.svg"
    assert presentation.picture("../../etc/passwd") == "pictures/fallback.svg"


def test_paging_leads_there_and_back_again() -> None:
    """Going older three times and newer three times ends at the first page, whatever is in the cursors."""
    first = paging("pending", "", "", "a,b")
    assert first == Paging(None, "/orders?status=pending&cursor=a%2Cb")
    second = paging("pending", "a,b", "", "c&d")
    assert second.newer == "/orders?status=pending"
    assert second.older == "/orders?status=pending&cursor=c%26d&back=a%252Cb"
    third = paging("pending", "c&d", "a%2Cb", None)
    assert third == Paging("/orders?status=pending&cursor=a%2Cb", None)
    assert paging("", "x", "", None) == Paging("/orders", None)


def test_paging_remembers_a_bounded_way_back() -> None:
    """The address does not grow without end however far somebody pages."""
    back = ""
    for page in range(100):
        older = paging("", f"c{page}", back, f"c{page + 1}").older
        assert older is not None
        back = older.partition("back=")[2].replace("%2C", ",")
    assert len(back.split(",")) == 20


@pytest.mark.parametrize(
    "wanted, path",
    [
        ("/orders", "/orders"),
        ("/orders?status=pending", "/orders?status=pending"),
        (None, "/orders/o%2F1"),
        ("", "/orders/o%2F1"),
        ("https://example.org/orders", "/orders/o%2F1"),
        ("//example.org", "/orders/o%2F1"),
        ("/orders.example.org", "/orders/o%2F1"),
        ("/orders?a\r\nSet-Cookie: b", "/orders/o%2F1"),
        ("/orders?\\example", "/orders/o%2F1"),
    ],
)
def test_a_form_leads_back_only_to_our_own_pages(wanted: str | None, path: str) -> None:
    """What a form names as the way back is used only when it is the list of orders."""
    assert return_path(wanted, "o/1") == path


def test_the_form_becomes_the_api_s_body() -> None:
    """The pressed button names the product, whose own quantity field counts."""
    form = {
        "sku": "cola",
        "quantity.cola": "3",
        "quantity.water": "9",
        "customer_id": " ada ",
        "payment_token": "tok_declined",
    }
    assert presentation.buy_request(form) == {
        "customer_id": "ada",
        "lines": [{"sku": "cola", "quantity": 3}],
        "payment": {"token": "tok_declined"},
        "ship_to": {"name": "ada"},
    }


def test_shipping_can_be_made_to_fail() -> None:
    """The checkbox becomes the name that the simulated carrier refuses; an empty buyer becomes a guest."""
    body = presentation.buy_request({"sku": "cola", "shipping": "fails"})
    assert body["ship_to"] == {"name": "FAIL_SHIPPING"}
    assert (body["customer_id"], body["payment"]) == ("guest", {"token": "tok_ok"})


@pytest.mark.parametrize("typed", ["", "two", "-1", "1.5", "²", "9" * 5000])
def test_a_quantity_that_is_no_number_is_left_to_the_api(typed: str) -> None:
    """Nonsense is handed on as text, so that the refusal names the field instead of a crash."""
    body = presentation.buy_request({"sku": "cola", "quantity.cola": typed})
    assert body["lines"] == [{"sku": "cola", "quantity": typed}]
