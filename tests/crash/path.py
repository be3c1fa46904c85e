"""The ways an order can go: what a customer does, and how it ends.

A `Customer` does the same again after a crash, with the same order id and the same keys, and is content only when what was answered
before is answered again, byte by byte. Neighbours: `shop` answers, `invariants` checks the end.
"""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.crash.shop import Answer, Gone, Server

ENDS = ("order-completed", "order-rejected", "order-cancelled", "order-expired")
BUYER = "ada"
AGAIN = (429, 503)
"""Answers after which a customer is to try again."""
BASKETS = ((("cheese", 2), ("bland", 1)), (("a-lot-of-cheese", 10),), (("a-lot-of-cheese", 10), ("cheese", 1)))
"""What three customers buy: shared products, and more than half of the scarce one."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """One way.

    Args:
        name: as the issue and the golden file call it.
        end: the fact that ends the order.
        status: `status`, `payment_status` of the order then.
        charge: states in which the provider's ledger may have the payment.
        token: how the customer pays.
        recipient: to whom.
        delay: seconds until a parcel leaves.
        cancel_after: the customer cancels when this fact is known.
        delivered: the customer gets the parcel and says so.
        also: statuses that are as good when the customer's cancellation was held up by a crash.
    """

    name: str
    end: str
    status: tuple[str, str]
    charge: tuple[str, ...]
    token: str = "tok_ok"
    recipient: str = "Ada Lovelace"
    delay: float = 0.0
    cancel_after: str | None = None
    delivered: bool = False
    also: tuple[tuple[str, str], ...] = ()

    @property
    def waits(self) -> bool:
        """Return whether it takes seconds, because payments asks the provider again."""
        return self.token == "tok_insufficient_funds" and self.cancel_after is None

    @property
    def sold(self) -> bool:
        """Return whether the goods are gone at the end."""
        return self.end == "order-completed"


LONG_S = 600.0
_ALL = (
    Path(name="happy", end="order-completed", status=("completed", "paid"), charge=("charged",), delivered=True),
    Path(name="declined", token="tok_declined", end="order-rejected", status=("rejected", "failed"), charge=("declined",)),
    Path(
        name="soft_declined",
        token="tok_insufficient_funds",
        end="order-completed",
        status=("completed", "paid"),
        charge=("charged",),
    ),
    Path(
        name="cancelled_before_payment",
        token="tok_insufficient_funds",
        delay=LONG_S,
        cancel_after="stock-reserved",
        end="order-cancelled",
        status=("cancelled", "failed"),
        charge=("declined", "voided", "refunded"),
        also=(("cancelled", "voided"), ("cancelled", "unpaid"), ("cancelled", "refunded")),
    ),
    Path(
        name="cancelled_after_payment",
        delay=LONG_S,
        cancel_after="shipping-scheduled",
        end="order-cancelled",
        status=("cancelled", "refunded"),
        charge=("refunded",),
    ),
    Path(
        name="shipping_failed",
        recipient="FAIL_SHIPPING",
        end="order-rejected",
        status=("rejected", "refunded"),
        charge=("refunded",),
    ),
)
PATHS = {path.name: path for path in _ALL}


@dataclass
class Customer:
    """Somebody with one order.

    Args:
        path: the way it is to go.
        basket: (sku, quantity) of each line.
        order_id: chosen by the customer, so that placing it can be repeated.
        answers: the first good answer to each thing done.
    """

    path: Path
    basket: Sequence[tuple[str, int]]
    order_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answers: dict[str, Answer] = field(default_factory=dict)

    def buy(self, server: Server) -> None:
        """Go the whole way.

        Raises:
            Gone: the server died on it.
        """
        self.place(server)
        if self.path.cancel_after is not None:
            server.facts.wait(self.order_id, self.path.cancel_after, *ENDS)
            self._do(server, "cancel", {"reason": "changed my mind"})
        server.facts.wait(self.order_id, *ENDS)
        if self.path.delivered:
            self._do(server, "deliver", {})

    def place(self, server: Server) -> None:
        """Place the order."""
        self._keep("place", server.call("POST", "/api/orders", self._order))

    def try_to_place(self, server: Server, *, patience: float) -> int:
        """Try to place the order and return the answer's status: 503 and 429 ask to come again.

        Raises:
            Gone: there was no answer in time.
        """
        answer = server.call("POST", "/api/orders", self._order, patience=patience)
        if answer.status not in AGAIN:
            self._keep("place", answer)
        return answer.status

    @property
    def _order(self) -> dict[str, object]:
        return {
            "order_id": self.order_id,
            "customer_id": BUYER,
            "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in self.basket],
            "payment": {"token": self.path.token},
            "ship_to": {"name": self.path.recipient},
        }

    def _do(self, server: Server, action: str, body: object) -> None:
        key = f"{action}-{self.order_id}"
        self._keep(action, server.call("POST", f"/api/orders/{self.order_id}/{action}", body, Idempotency_Key=key))

    def _keep(self, action: str, answer: Answer) -> None:
        assert answer.status in (200, 201), (action, self.order_id, answer)
        first = self.answers.setdefault(action, answer)
        assert answer.body == first.body, f"{action} of {self.order_id} was answered {first.body!r}, and after the crash {answer.body!r}"

    @property
    def place_position(self) -> str:
        """Return where the order was placed, for `Millrace-Position`."""
        return self.answers["place"].headers["millrace-position"]

    @property
    def deliver_position(self) -> str:
        """Return where the delivery was noted, for the same."""
        return self.answers["deliver"].headers["millrace-position"]


def three_customers(path: Path) -> list[Customer]:
    """Return three with a basket each."""
    return [Customer(path, basket) for basket in BASKETS]


def buy_together(server: Server, customers: Sequence[Customer]) -> bool:
    """Let all go their way at once; return whether each got to its end before the server died."""

    def buy(customer: Customer) -> bool:
        try:
            customer.buy(server)
        except Gone:
            return False
        return True

    with ThreadPoolExecutor(len(customers)) as threads:
        return all(list(threads.map(buy, customers)))
