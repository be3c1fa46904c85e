"""Facts and commands of the context orders; only orders writes the topic `orders`.

Every message is keyed by `order_id`. Facts that end an order carry its lines and `was_confirmed`, so that a reader
who counted the confirmation can take it back without keeping a copy of the order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from millrace import Command, Event, Personal
from parcomolo.contracts.lines import Line, ShipTo
from parcomolo.contracts.money import Money

SETTLED = "order_settled"
"""The reason of what orders itself asks of stock, payment and shipping, when an operator settles an order as cancelled."""


class OrderPlaced(Event, name="order-placed", topic="orders", key="order_id"):
    """An order exists. With `review_until` its content may change until then, and checkout waits."""

    order_id: str
    number: str
    customer_id: str
    lines: tuple[Line, ...]
    total: Money
    ship_to: Annotated[ShipTo | None, Personal] = None
    payment_token: Annotated[str, Personal]
    placed_at: datetime
    review_until: datetime | None = None


class OrderLineAdded(Event, name="order-line-added", topic="orders", key="order_id"):
    """Pieces were added; the same product merges and this price holds for all of them. `total` is the new total."""

    order_id: str
    sku: str
    name: str
    quantity: int
    unit_price: Money
    total: Money


class OrderLineRemoved(Event, name="order-line-removed", topic="orders", key="order_id"):
    """`quantity` pieces were really there and are gone. `total` is the new total."""

    order_id: str
    sku: str
    quantity: int
    total: Money


class OrderReviewEnded(Event, name="order-review-ended", topic="orders", key="order_id"):
    """The content is final: checkout starts with what the facts before this one add up to, which are these lines and this total."""

    order_id: str
    lines: tuple[Line, ...] = ()
    total: Money | None = None


class OrderConfirmed(Event, name="order-confirmed", topic="orders", key="order_id"):
    """Stock is reserved and the payment has succeeded."""

    order_id: str
    customer_id: str
    lines: tuple[Line, ...]
    total: Money


class OrderRejected(Event, name="order-rejected", topic="orders", key="order_id"):
    """The order ended; `reason` is out_of_stock, payment_failed or shipping_failed. `compensations` names what was undone for it.

    `closed` is as `order-cancelled` has it.
    """

    order_id: str
    reason: str
    detail: str = ""
    lines: tuple[Line, ...] = ()
    was_confirmed: bool = False
    compensations: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


class OrderCancellationRequested(Event, name="order-cancellation-requested", topic="orders", key="order_id"):
    """Somebody wants the order cancelled; shipping decides whether it still can be."""

    order_id: str
    reason: str


class OrderCancellationRefused(Event, name="order-cancellation-refused", topic="orders", key="order_id"):
    """The parcel had already left; the order goes on. `closed` is as `order-cancelled` has it."""

    order_id: str
    reason: str
    closed: tuple[str, ...] = ()


class OrderCancelled(Event, name="order-cancelled", topic="orders", key="order_id"):
    """The order ended as asked for; `compensations` names what really was undone.

    Where somebody orchestrates, `closed` names who of stock, payment and shipping has said that nothing of the order is left there.
    `settled_by` names the operator who has ended an order that was on hold, empty where no name was given: then nothing has left, nothing
    is reserved, and what became of money that had been taken by then was the operator's to see to.
    """

    order_id: str
    reason: str
    compensations: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    was_confirmed: bool = False
    settled_by: str | None = None


class OrderExpired(Event, name="order-expired", topic="orders", key="order_id"):
    """The reservation ran out before the payment succeeded; nothing is owed. `closed` is as `order-cancelled` has it."""

    order_id: str
    lines: tuple[Line, ...] = ()
    was_confirmed: bool = False
    compensations: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


class OrderHeld(Event, name="order-held", topic="orders", key="order_id"):
    """A person has taken the checkout over: the machine does nothing more for the order until an operator settles how it ends.

    `heard` names what the checkout had been told by then.
    """

    order_id: str
    reason: str
    heard: tuple[str, ...] = ()


class OrderSettlementBegun(Event, name="order-settlement-begun", topic="orders", key="order_id"):
    """An operator says how an order that is on hold ends; it ends so when the others have answered.

    `at`: what is only paid after that is given back, where it is to be cancelled.
    """

    order_id: str
    outcome: Literal["cancelled", "completed"]
    reason: str
    by: str = ""
    at: datetime


class OrderSettlementRefused(Event, name="order-settlement-refused", topic="orders", key="order_id"):
    """The order cannot end so after all, and is on hold as before; `reason` is already_shipped or nothing_reserved."""

    order_id: str
    outcome: Literal["cancelled", "completed"]
    reason: str


class OrderCompleted(Event, name="order-completed", topic="orders", key="order_id"):
    """Shipped, and the stock has left: checkout is finished.

    Of an order that was on hold, an operator says so, who is named in `settled_by`, for a `reason`: then the parcel may have been none of
    the carrier's. `closed` is as `order-cancelled` has it.
    """

    order_id: str
    closed: tuple[str, ...] = ()
    reason: str | None = None
    settled_by: str | None = None


class OrderDelivered(Event, name="order-delivered", topic="orders", key="order_id"):
    """The parcel has arrived."""

    order_id: str
    customer_id: str
    placed_at: datetime
    delivered_at: datetime


class OrderCommandRejected(Event, name="command-rejected", topic="orders", key="order_id"):
    """The answer to a command from `orders.commands` that was refused."""

    order_id: str
    command: str
    reason: str


class OrderStandsConfirmed(Event, topic="internal.orders", key="order_id"):
    """The answer to a repeated `confirm-order`: the order has been confirmed before, and that fact is not said twice."""

    order_id: str


class OrderStandsCompleted(Event, topic="internal.orders", key="order_id"):
    """The answer to a repeated `complete-order`."""

    order_id: str


class ConfirmOrder(Command, name="confirm-order", topic="orders.commands", key="order_id"):
    """Stock is reserved and paid: confirm."""

    order_id: str


class RejectOrder(Command, name="reject-order", topic="orders.commands", key="order_id"):
    """Everything is undone, which `compensations` names: end the order with this reason.

    From whoever orchestrates, the reason `reservation_expired` makes it expire, and an order that is being cancelled by then is cancelled.
    """

    order_id: str
    reason: str
    detail: str = ""
    compensations: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


class CancelOrder(Command, name="cancel-order", topic="orders.commands", key="order_id"):
    """Cancel, if the parcel has not left; the reason is kept and published.

    `compensations` is for whoever orchestrates: what is asked for is done, and this is what really was undone for it; with `closed` as
    `order-cancelled` has it.
    """

    order_id: str
    reason: str
    compensations: tuple[str, ...] | None = None
    closed: tuple[str, ...] = ()


class HoldOrder(Command, name="hold-order", topic="orders.commands", key="order_id"):
    """A person sees to the order from now on: hold it. For whoever orchestrates; from others it is refused.

    `heard` names the answers that had come by then.
    """

    order_id: str
    reason: str
    heard: tuple[str, ...] = ()


class CompleteOrder(Command, name="complete-order", topic="orders.commands", key="order_id"):
    """Shipped, and the stock has left: finish. `closed` names who has said so; where somebody has skipped it, not stock."""

    order_id: str
    closed: tuple[str, ...] = ()
