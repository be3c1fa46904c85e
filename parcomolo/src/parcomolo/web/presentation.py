"""What the pages show, worked out from an order as the API answers it.

Everything here is a pure function of its arguments: no clock, no input or output, no markup. The templates put
the answers on the page; they hold no rule of the shop themselves. An order is the JSON of `GET /orders/{id}`;
its `timeline` may be missing, as it is in lists.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from parcomolo.contracts.money import written


class Money(TypedDict):
    """An amount in minor units of its currency."""

    amount: int
    currency: str


class Line(TypedDict):
    """One product of an order at the price of that moment."""

    sku: str
    name: str
    quantity: int
    unit_price: Money


class Fact(TypedDict):
    """One entry of an order's timeline."""

    type: str
    at: datetime | str
    service: str
    text: str


class Order(TypedDict):
    """An order as the API answers it."""

    order_id: str
    number: str
    customer_id: str
    lines: Sequence[Line]
    total: Money
    status: str
    payment_status: str
    fulfilment_status: str
    placed_at: datetime | str
    ship_to: NotRequired[Mapping[str, str | None] | None]
    reason: NotRequired[str | None]
    settling: NotRequired[str | None]
    timeline: NotRequired[Sequence[Fact]]


class Product(TypedDict):
    """One product of the catalogue with what can still be ordered of it."""

    sku: str
    name: str
    description: str
    group: str
    unit_price: Money
    available: NotRequired[int | None]


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time, ready to print; all parts are UTC."""

    iso: str
    day: str
    clock: str
    full: str


@dataclass(frozen=True, slots=True)
class Pill:
    """A status as a word, an icon and a tone; `meaning` explains the word."""

    axis: str
    value: str
    word: str
    icon: str
    tone: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact that has happened; `gap` is the time since the one before, empty for the first."""

    fact: str
    title: str
    text: str
    service: str
    icon: str
    tone: str
    at: Moment
    gap: str


@dataclass(frozen=True, slots=True)
class Step:
    """A fact still to come; `state` is `running`, `waiting` (for a person) or `later`."""

    title: str
    text: str
    service: str
    icon: str
    state: str


@dataclass(frozen=True, slots=True)
class LineView:
    """One line with its prices printed."""

    sku: str
    name: str
    quantity: int
    unit: str
    amount: str


@dataclass(frozen=True, slots=True)
class OrderView:
    """All that the order page and a row of the list show of one order."""

    order_id: str
    number: str
    customer: str
    headline: str
    reason: str
    status: Pill
    payment: Pill
    fulfilment: Pill
    lines: tuple[LineView, ...]
    items: str
    total: str
    ship_to: tuple[str, ...]
    placed: Moment
    entries: tuple[Entry, ...]
    steps: tuple[Step, ...]
    can_cancel: bool
    can_deliver: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Products that belong together on the storefront."""

    title: str
    products: tuple[Product, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A payment token of the simulated provider and what it leads to."""

    token: str
    title: str
    sentence: str
    tone: str


OUTCOMES = (
    Outcome("tok_ok", "Payment works", "Charged at the first try.", "good"),
    Outcome("tok_insufficient_funds", "Low on funds", "Declined twice, works at the third try.", "wait"),
    Outcome("tok_timeout_then_ok", "Slow bank", "No answer for 5 s, then charged exactly once.", "wait"),
    Outcome("tok_declined", "Card declined", "A hard no: stock goes back, order rejected.", "bad"),
    Outcome("tok_timeout", "Bank never answers", "Rejected within a minute, never charged.", "bad"),
    Outcome("tok_refund_fails_twice", "Stubborn refund", "Works; if you cancel, the refund needs three tries.", "undo"),
)

_BURGERS = ("bland", "cheese", "a-lot-of-cheese", "veggie", "double-trouble")
_SIDES = ("fries", "sweet-fries", "sweet-potato-fries", "onion-rings", "coleslaw")
_DRINKS = ("cola", "lemonade", "milkshake", "water", "coffee")
PICTURES = frozenset((*_BURGERS, *_SIDES, *_DRINKS))

STATUSES = ("pending", "on_hold", "confirmed", "completed", "cancelling", "cancelled", "rejected", "expired")

# Of each value: word, icon, tone, meaning.
_STATUS = {
    "pending": ("Pending", "clock", "run", "Checkout is running"),
    "on_hold": ("On hold", "pause", "wait", "Waits for a decision"),
    "confirmed": ("Confirmed", "check", "good", "Stock is reserved and paid"),
    "completed": ("Completed", "flag", "good", "Shipped, checkout has finished"),
    "cancelling": ("Cancelling", "undo", "undo", "What was done is being undone"),
    "cancelled": ("Cancelled", "slash", "idle", "Cancelled, everything is undone"),
    "rejected": ("Rejected", "cross", "bad", "The shop could not accept it"),
    "expired": ("Expired", "sand", "idle", "Took too long, nothing is held"),
}
_PAYMENT = {
    "unpaid": ("Unpaid", "ring", "idle", "No money has moved"),
    "authorised": ("Authorised", "lock", "run", "The amount is held on the card"),
    "paid": ("Paid", "card", "good", "The money has arrived"),
    "refunded": ("Refunded", "undo", "undo", "The money went back"),
    "voided": ("Voided", "slash", "idle", "The hold on the card is gone"),
    "failed": ("Failed", "cross", "bad", "No payment could be made"),
}
_FULFILMENT = {
    "unfulfilled": ("Not packed", "ring", "idle", "Nothing is reserved"),
    "reserved": ("Reserved", "box", "run", "The stock is held for this order"),
    "scheduled": ("Scheduled", "calendar", "run", "A carrier is booked"),
    "shipped": ("Shipped", "truck", "good", "On its way"),
    "delivered": ("Delivered", "home", "good", "Handed over"),
}
_AXES = {"status": _STATUS, "payment": _PAYMENT, "fulfilment": _FULFILMENT}

# Of each fact: title once it has happened, icon, tone.
_FACTS = {
    "order-placed": ("Order placed", "receipt", "fact"),
    "order-line-added": ("Line added", "plus", "fact"),
    "order-line-removed": ("Line removed", "minus", "fact"),
    "order-confirmed": ("Order confirmed", "check", "good"),
    "order-rejected": ("Order rejected", "cross", "bad"),
    "order-cancellation-requested": ("Cancellation requested", "undo", "undo"),
    "order-cancellation-refused": ("Cancellation refused", "slash", "wait"),
    "order-cancelled": ("Order cancelled", "slash", "undo"),
    "order-completed": ("Order completed", "flag", "good"),
    "order-delivered": ("Delivered", "home", "good"),
    "order-expired": ("Order expired", "sand", "bad"),
    "order-review-ended": ("Content final", "check", "fact"),
    "order-held": ("Order held", "pause", "wait"),
    "order-hold-released": ("Hold released", "check", "fact"),
    "order-settled": ("Order settled", "pause", "wait"),
    "order-settlement-begun": ("Settlement begun", "pause", "wait"),
    "order-settlement-refused": ("Settlement refused", "cross", "bad"),
    "stock-reserved": ("Stock reserved", "box", "fact"),
    "out-of-stock": ("Out of stock", "cross", "bad"),
    "stock-released": ("Stock released", "undo", "undo"),
    "stock-committed": ("Stock booked out", "box", "fact"),
    "reservation-expired": ("Reservation expired", "sand", "bad"),
    "payment-succeeded": ("Payment received", "card", "fact"),
    "payment-failed": ("Payment failed", "cross", "bad"),
    "payment-refunded": ("Payment refunded", "undo", "undo"),
    "refund-failed": ("Refund failed", "cross", "bad"),
    "shipping-scheduled": ("Shipping scheduled", "calendar", "fact"),
    "item-shipped": ("Shipped", "truck", "good"),
    "shipping-failed": ("Shipping failed", "cross", "bad"),
    "shipping-cancelled": ("Shipping cancelled", "undo", "undo"),
    "delivery-late": ("Delivery late", "sand", "wait"),
}

# Of each fact: title while it is still to come, service, text.
_TO_COME = {
    "order-settled": ("Settle the order", "orders", "Somebody looks after it by hand, and says how it ends."),
    "stock-reserved": ("Reserve stock", "inventory", "All lines or none."),
    "payment-succeeded": ("Take payment", "payments", "Asks the payment provider."),
    "order-confirmed": ("Confirm the order", "orders", "Stock is held and paid for."),
    "shipping-scheduled": ("Schedule shipping", "shipping", "Books a carrier."),
    "item-shipped": ("Ship", "shipping", "The parcel leaves the house."),
    "stock-committed": ("Book out the stock", "inventory", "It leaves the shelf for good."),
    "order-completed": ("Complete the order", "orders", "Checkout ends here."),
    "order-delivered": ("Deliver", "orders", "Waits for you to say that it has arrived."),
    "shipping-cancelled": ("Cancel shipping", "shipping", "The carrier is called off."),
    "payment-refunded": ("Refund the payment", "payments", "The money goes back."),
    "stock-released": ("Release the stock", "inventory", "Others can buy it again."),
    "order-cancelled": ("Cancel the order", "orders", "Once everything is undone."),
    "order-rejected": ("Reject the order", "orders", "Once everything is undone."),
    "order-cancellation-refused": ("Refuse the cancellation", "orders", "The parcel has already left."),
}
_CALLED_OFF = ("Payment called off", "slash", "undo")
"""How `payment-failed` looks when no card is to blame; the fact's own sentence begins so."""
_HAPPY_PATH = (
    "order-placed",
    "stock-reserved",
    "payment-succeeded",
    "order-confirmed",
    "shipping-scheduled",
    "item-shipped",
    "stock-committed",
    "order-completed",
    "order-delivered",
)
_WAITS_FOR_A_PERSON = frozenset({"order-settled", "order-delivered"})
"""Steps that no machine takes. `order-settled` is no fact: what an operator settles is told as completed or cancelled in the end."""

_REASONS = {
    "out_of_stock": "not enough in stock",
    "payment_failed": "the payment did not go through",
    "risk": "the check did not pass",
    "shipping_failed": "no carrier could take it",
    "already_shipped": "the parcel had already left",
}


def money(value: Money) -> str:
    """Print an amount, as the story of an order writes it."""
    return written(value["amount"], value["currency"])


def instant(value: datetime | str) -> datetime:
    """Read a time in UTC; one without a zone is taken as UTC. Raises ValueError for what is no time."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def moment(value: datetime | str) -> Moment:
    """Print a time in all the forms that the pages use."""
    at = instant(value)
    day = f"{at.day} {at:%b %Y}"
    clock = f"{at:%H:%M:%S}"
    return Moment(at.isoformat(timespec="microseconds").replace("+00:00", "Z"), day, clock, f"{day}, {clock} UTC")


def ago(value: datetime | str, now: datetime) -> str:
    """Say how long ago something was; older than a week gives the day."""
    seconds = (instant(now) - instant(value)).total_seconds()
    if seconds < 10:
        return "just now"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (604800, 86400, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return moment(value).day


def gap(before: datetime | str | None, after: datetime | str) -> str:
    """Say how much later something was: `+420 ms`, `+3.1 s`, `+2 min 5 s`; empty when it was not later."""
    if before is None:
        return ""
    seconds = (instant(after) - instant(before)).total_seconds()
    if seconds < 0.0005:
        return ""
    if seconds < 0.9995:
        return f"+{round(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"+{seconds:.1f} s"
    rounded = round(seconds)
    for size, unit, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if rounded >= size:
            return f"+{rounded // size} {unit} {rounded % size // below} {part}"
    return f"+{rounded} s"


def pill(axis: str, value: str) -> Pill:
    """Find word, icon and tone of a value on the axis `status`, `payment` or `fulfilment`."""
    unknown = (value.replace("_", " ").capitalize(), "ring", "idle", "")
    word, icon, tone, meaning = _AXES[axis].get(value, unknown)
    return Pill(axis, value, word, icon, tone, meaning)


def short_name(type_: str) -> str:
    """Cut the wire name of a fact to its short form: `parcomolo.shipping.item-shipped.v1` is `item-shipped`."""
    parts = type_.split(".")
    return parts[2] if len(parts) == 4 else type_


def picture(sku: str) -> str:
    """Name the file that shows a product; products without a drawing share one."""
    return f"pictures/{sku if sku in PICTURES else 'fallback'}.svg"


def grouped(products: Iterable[Product]) -> tuple[Group, ...]:
    """Sort products into their groups, both in the order in which they come."""
    groups: dict[str, list[Product]] = {}
    for product in products:
        groups.setdefault(product["group"], []).append(product)
    return tuple(Group(name[:1].upper() + name[1:], tuple(members)) for name, members in groups.items())


def stock_note(product: Product) -> tuple[str, str]:
    """Say how much is left of a product, as words and a tone; no words when that is not known."""
    left = product.get("available")
    if left is None:
        return "", "idle"
    if left <= 0:
        return "Sold out", "bad"
    return (f"Only {left} left", "wait") if left <= 10 else (f"{left} left", "idle")


def can_cancel(order: Order) -> bool:
    """Tell whether a cancellation would be accepted now."""
    open_ = order["status"] in {"pending", "confirmed"}
    return open_ and order["fulfilment_status"] not in {"shipped", "delivered"}


def can_deliver(order: Order) -> bool:
    """Tell whether the order can be marked as delivered now."""
    return order["fulfilment_status"] == "shipped" and order["status"] in {"on_hold", "confirmed", "completed"}


def has_ended(order: Order) -> bool:
    """Tell whether nothing more will happen to an order: nobody need watch it."""
    by_hand = "order-held" in _facts_of(order)
    if order["status"] == "completed" and not by_hand:
        return order["fulfilment_status"] == "delivered"
    return order["status"] in {"completed", "cancelled", "rejected", "expired"} and not steps_to_come(order)


def reason_text(order: Order) -> str:
    """Say why an order ended as it did; a code of the shop becomes words, a person's words stay as they are."""
    reason = order.get("reason") or ""
    return _REASONS.get(reason, reason)


def entries(order: Order) -> tuple[Entry, ...]:
    """List the facts that have happened, in the order in which the API tells them."""
    before: datetime | str | None = None
    found: list[Entry] = []
    for fact in order.get("timeline", ()):
        name = short_name(fact["type"])
        title, icon, tone = _FACTS.get(name, (name.replace("-", " ").capitalize(), "dot", "fact"))
        if name == "payment-failed" and fact["text"].startswith(_CALLED_OFF[0]):
            title, icon, tone = _CALLED_OFF
        text = _beside(title, fact["text"])
        found.append(Entry(name, title, text, fact["service"], icon, tone, moment(fact["at"]), gap(before, fact["at"])))
        before = fact["at"]
    return tuple(found)


def _beside(title: str, text: str) -> str:
    """Leave out of a fact's text what the title beside it says already."""
    if text == f"{title}.":
        return ""
    more = text.removeprefix(f"{title}: ")
    return text if more == text else more[:1].upper() + more[1:]


def _facts_of(order: Order) -> frozenset[str]:
    return frozenset(short_name(fact["type"]) for fact in order.get("timeline", ()))


def steps_to_come(order: Order) -> tuple[Step, ...]:
    """List what is still expected to happen to an order, in the order in which it should."""
    facts = _facts_of(order)
    names = [name for name in _route(order, facts) if name not in facts]
    return tuple(_step(name, first=index == 0) for index, name in enumerate(names))


def _step(name: str, *, first: bool) -> Step:
    title, service, text = _TO_COME[name]
    icon = _FACTS[name][1]
    state = "later" if not first else "waiting" if name in _WAITS_FOR_A_PERSON else "running"
    return Step(title, text, service, icon, state)


def _route(order: Order, facts: frozenset[str]) -> tuple[str, ...]:
    status = order["status"]
    if "order-held" in facts:
        return _route_by_hand(order, facts)
    if status in {"cancelled", "rejected", "expired"}:
        return ("payment-refunded",) if order["payment_status"] == "paid" else ()
    if status == "cancelling":
        if "item-shipped" in facts:
            return ("order-cancellation-refused", "stock-committed", "order-completed", "order-delivered")
        return (*_undo(facts), "order-cancelled")
    if _is_failing(order, facts):
        return (*_undo(facts), "order-rejected")
    return _HAPPY_PATH[1:]


def _route_by_hand(order: Order, facts: frozenset[str]) -> tuple[str, ...]:
    """List what is left where a person has taken over: the settlement, and of the machine's steps what was asked for already."""
    called_off = bool(facts & {"shipping-cancelled", "shipping-failed"})
    if order["status"] == "on_hold":
        return _route_of_settlement(order.get("settling"), called_off=called_off)
    if order["status"] == "cancelled":
        return ()
    parcel = ("item-shipped", "order-delivered") if facts & {"shipping-scheduled", "item-shipped"} else ()
    return () if called_off else parcel


def _route_of_settlement(outcome: str | None, *, called_off: bool) -> tuple[str, ...]:
    match outcome:
        case "cancelled":
            return (*(() if called_off else ("shipping-cancelled",)), "stock-released", "order-cancelled")
        case "completed":
            return ("stock-committed", "order-completed")
        case _:
            return ("order-settled",)


def _is_failing(order: Order, facts: frozenset[str]) -> bool:
    return bool(facts & {"out-of-stock", "shipping-failed"}) or order["payment_status"] == "failed"


def _undo(facts: frozenset[str]) -> tuple[str, ...]:
    done = (
        ("shipping-scheduled", "shipping-cancelled"),
        ("payment-succeeded", "payment-refunded"),
        ("stock-reserved", "stock-released"),
    )
    gone = "reservation-expired" in facts
    return tuple(undo for step, undo in done if step in facts and not (gone and step == "stock-reserved"))


def headline(order: Order) -> str:
    """Say in one sentence where an order stands, from the buyer's side."""
    status, why = order["status"], reason_text(order)
    if status == "on_hold":
        settling = order.get("settling")
        return f"On hold: it is about to be {settling}." if settling else "On hold: somebody is looking after it."
    if status == "cancelled":
        return "Cancelled, and your money is back." if order["payment_status"] == "refunded" else "Cancelled."
    if status == "rejected":
        return f"We could not take this order: {why}." if why else "We could not take this order."
    if status == "expired":
        return "This order took too long and has lapsed."
    if status == "cancelling":
        return "Cancelling: we are undoing what was done."
    if order["fulfilment_status"] == "delivered":
        return "Delivered. Enjoy!"
    if order["fulfilment_status"] == "shipped":
        return "It is on its way to you."
    if status == "completed" and "order-held" in _facts_of(order):
        return "Completed: somebody has seen to it by hand."
    return _headline_of_an_open_order(order)


def _headline_of_an_open_order(order: Order) -> str:
    facts = _facts_of(order)
    if _is_failing(order, facts):
        return "Something went wrong: we are putting everything back."
    if order["fulfilment_status"] == "scheduled":
        return "Packed, and waiting for the carrier."
    if order["status"] in {"confirmed", "completed"}:
        return "Paid and confirmed: we are finding a carrier."
    if order["payment_status"] == "paid":
        return "Paid: we are confirming your order."
    if order["fulfilment_status"] == "reserved":
        return "We are confirming your payment."
    return "We are reserving your items."


def address(order: Order) -> tuple[str, ...]:
    """Give the lines of the delivery address that are filled in."""
    ship_to = order.get("ship_to") or {}
    found = (ship_to.get(part) for part in ("name", "street", "city", "country"))
    return tuple(line for line in found if line)


def present(order: Order) -> OrderView:
    """Work out all that a page shows of one order."""
    lines = tuple(_line(line) for line in order["lines"])
    count = sum(line.quantity for line in lines)
    return OrderView(
        order_id=order["order_id"],
        number=order["number"],
        customer=order["customer_id"],
        headline=headline(order),
        reason=reason_text(order),
        status=pill("status", order["status"]),
        payment=pill("payment", order["payment_status"]),
        fulfilment=pill("fulfilment", order["fulfilment_status"]),
        lines=lines,
        items="1 item" if count == 1 else f"{count} items",
        total=money(order["total"]),
        ship_to=address(order),
        placed=moment(order["placed_at"]),
        entries=entries(order),
        steps=steps_to_come(order),
        can_cancel=can_cancel(order),
        can_deliver=can_deliver(order),
        ended=has_ended(order),
    )


def _line(line: Line) -> LineView:
    unit, quantity = line["unit_price"], line["quantity"]
    amount: Money = {"amount": unit["amount"] * quantity, "currency": unit["currency"]}
    return LineView(line["sku"], line["name"], quantity, money(unit), money(amount))


def buy_request(form: Mapping[str, str]) -> dict[str, object]:
    """Turn the storefront's form into the body of `POST /api/orders`.

    The button says which product (`sku`); its quantity is in `quantity.<sku>`. What is no number is handed on as it
    is, so that the API's own answer names the field.
    """
    sku = form.get("sku", "")
    typed = form.get(f"quantity.{sku}", form.get("quantity", "1")).strip()
    quantity: int | str = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 10 else typed
    customer = form.get("customer_id", "").strip() or "guest"
    name = "FAIL_SHIPPING" if form.get("shipping") == "fails" else customer
    return {
        "customer_id": customer,
        "lines": [{"sku": sku, "quantity": quantity}],
        "payment": {"token": form.get("payment_token", "tok_ok")},
        "ship_to": {"name": name},
    }
