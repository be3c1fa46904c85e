"""The port to a payment provider, and a simulated one.

A provider is asked with a key of ours and must act once per key, whatever is repeated: that is what makes calls from
outside of a transaction safe. A real one takes the place of the simulation by implementing `PaymentProvider`.

`SimulatedProvider` keeps a ledger of its own in a file, as a real provider would: after a kill -9 of the platform,
`charges()` shows what was really taken. Tokens choose what happens:

    tok_ok                    charged
    tok_declined              hard decline
    tok_insufficient_funds    soft decline twice, then charged
    tok_timeout_then_ok       charged, but the first answer is lost
    tok_timeout               charged, and every answer is lost
    tok_refund_fails_twice    charged; two refunds fail, the third succeeds
    anything else             hard decline: unknown_token
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, cast

import msgspec

from parcomolo.contracts.money import Money
from parcomolo.outages import Outage
from parcomolo.payments.answers import ChargeOutcome

Answer = TypeVar("Answer")
ChargeState = Literal["declined", "charged", "voided", "refunded"]


class ChargeResult(msgspec.Struct, frozen=True):
    """What came of a request to charge; `unknown` means that no answer came, and money may have been taken."""

    outcome: ChargeOutcome
    reason: str = ""


class RefundResult(msgspec.Struct, frozen=True):
    """What came of a request to refund."""

    refunded: bool
    reason: str = ""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as the provider has it. `asked` and `refunds_asked` count requests."""

    key: str
    amount: Money
    token: str
    state: ChargeState
    asked: int = 0
    refunds_asked: int = 0


class PaymentProvider(Protocol):
    """What payments needs of a provider; every method may be repeated with the same key.

    One that does not answer at all raises an `OSError` (`ConnectionError`, `TimeoutError`): payments asks again later.
    """

    async def charge(self, key: str, *, amount: Money, token: str) -> ChargeResult:
        """Take the amount, once per key."""
        ...

    async def refund(self, key: str, *, amount: Money) -> RefundResult:
        """Give back what was taken under the key, once."""
        ...

    async def void(self, key: str) -> None:
        """Give back what was taken under the key, if anything, and take nothing under it later."""
        ...

    async def find(self, key: str) -> Charge | None:
        """Return what the provider knows under the key."""
        ...


_SCHEMA = """
create table if not exists charge (
    key text primary key, amount integer not null, currency text not null, token text not null,
    state text not null, asked integer not null, refunds_asked integer not null
) strict
"""
_FIND = "select key, amount, currency, token, state, asked, refunds_asked from charge where key = ?"
_LIST = "select key, amount, currency, token, state, asked, refunds_asked from charge order by rowid"
_SAVE = """
insert into charge values (?, ?, ?, ?, ?, ?, ?)
on conflict do update set state = excluded.state, asked = excluded.asked, refunds_asked = excluded.refunds_asked
"""
_REFUNDS_THAT_FAIL = 2
_SOFT_DECLINES = 2


class SimulatedProvider:
    """A provider whose customers pay with tokens that say what will happen.

    Args:
        path: its ledger, a file of its own, synced on every write; several processes may share it. It is opened when
            it is first needed.
        outage: says when it does not answer.
    """

    def __init__(self, path: str | Path, *, outage: Outage | None = None) -> None:
        self._path = path
        self._outage = outage
        self._lock = threading.Lock()
        self._asked: list[tuple[Callable[[Ledger], Any], asyncio.Future[Any]]] = []
        self._answering: asyncio.Task[None] | None = None

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)  # whoever keeps everything on servers has made none
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10.0)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(_SCHEMA)
        return connection

    async def charge(self, key: str, *, amount: Money, token: str) -> ChargeResult:
        """Take the amount, once per key, as the token says."""
        return await self._ask(lambda ledger: take(ledger, key, amount, token))

    async def refund(self, key: str, *, amount: Money) -> RefundResult:
        """Give the charge back; partial refunds are not simulated, so `amount` must be all of it."""
        return await self._ask(lambda ledger: give_back(ledger, key, amount))

    async def void(self, key: str) -> None:
        """Leave no money under the key, and a tombstone if there was none."""
        await self._ask(lambda ledger: leave_nothing(ledger, key))

    async def find(self, key: str) -> Charge | None:
        """Return what the ledger has under the key."""
        return await self._ask(lambda ledger: ledger.find(key))

    async def _ask(self, work: Callable[[Ledger], Answer]) -> Answer:
        """Run `work` on the ledger; requests that wait together share one durable write.

        Raises:
            ConnectionError: the provider is down.
        """
        if self._outage is not None:
            self._outage.check()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((work, answer))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer(), name="payment provider")
        return await answer

    async def _answer(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                results = await asyncio.to_thread(self.run_now, [work for work, _ in asked])
            except Exception as failure:  # noqa: BLE001  # whatever it is, those who asked get it
                results = [cast("Any", failure)] * len(asked)
            for (_, answer), result in zip(asked, results, strict=True):
                if answer.done():
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

    def run_now(self, works: Sequence[Callable[[Ledger], Any]]) -> list[Any]:
        """Run works on the ledger in one durable write; for whoever is no coroutine."""
        with self._lock, Ledger(self._connection) as ledger:
            return [work(ledger) for work in works]

    def charges(self) -> tuple[Charge, ...]:
        """Return the whole ledger, oldest first."""
        with self._lock:
            return tuple(_charge_of(row) for row in self._connection.execute(_LIST))

    def close(self) -> None:
        """Close the ledger."""
        with self._lock:
            if "_connection" in self.__dict__:
                self._connection.close()


def take(ledger: Ledger, key: str, amount: Money, token: str) -> ChargeResult:
    """Take the amount, once per key, as the token says."""
    known = ledger.find(key) or Charge(key=key, amount=amount, token=token, state="declined")
    if known.state in ("voided", "refunded"):
        return ChargeResult("declined_hard", known.state)
    asked = msgspec.structs.replace(known, asked=known.asked + 1)
    state, result = _act(asked)
    ledger.save(msgspec.structs.replace(asked, state=state))
    return result


def give_back(ledger: Ledger, key: str, amount: Money) -> RefundResult:
    """Give the charge back, as the token says."""
    known = ledger.find(key)
    if known is None or known.state == "declined" or known.amount != amount:
        return RefundResult(refunded=False, reason="nothing_to_refund")
    asked = msgspec.structs.replace(known, refunds_asked=known.refunds_asked + 1)
    fails = known.token == "tok_refund_fails_twice" and asked.refunds_asked <= _REFUNDS_THAT_FAIL
    state = "refunded" if known.state == "charged" and not fails else known.state
    ledger.save(msgspec.structs.replace(asked, state=state))
    return RefundResult(refunded=state != "charged", reason="provider_error" if state == "charged" else "")


def leave_nothing(ledger: Ledger, key: str) -> None:
    """Leave no money under the key, and a tombstone if there was none."""
    known = ledger.find(key) or Charge(key=key, amount=Money(amount=0), token="", state="declined")
    if known.state in ("declined", "charged"):
        ledger.save(msgspec.structs.replace(known, state="voided"))


def _act(charge: Charge) -> tuple[ChargeState, ChargeResult]:
    match charge.token:
        case "tok_ok" | "tok_refund_fails_twice":
            return "charged", ChargeResult("ok")
        case "tok_declined":
            return "declined", ChargeResult("declined_hard", "card_declined")
        case "tok_insufficient_funds" if charge.asked <= _SOFT_DECLINES:
            return "declined", ChargeResult("declined_soft", "insufficient_funds")
        case "tok_timeout_then_ok" if charge.asked == 1:
            return "charged", ChargeResult("unknown", "provider_timeout")
        case "tok_insufficient_funds" | "tok_timeout_then_ok":
            return "charged", ChargeResult("ok")
        case "tok_timeout":
            return "charged", ChargeResult("unknown", "provider_timeout")
        case _:
            return "declined", ChargeResult("declined_hard", "unknown_token")


class Ledger:
    """A write transaction on the ledger: durable when the block ends, undone when it raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        self._connection.execute("begin immediate")
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("rollback" if failure else "commit")

    def find(self, key: str) -> Charge | None:
        row = self._connection.execute(_FIND, (key,)).fetchone()
        return _charge_of(row) if row else None

    def save(self, charge: Charge) -> None:
        money = charge.amount
        counts = (charge.asked, charge.refunds_asked)
        self._connection.execute(_SAVE, (charge.key, money.amount, money.currency, charge.token, charge.state, *counts))


def _charge_of(row: tuple[str, int, str, str, ChargeState, int, int]) -> Charge:
    key, amount, currency, token, state, asked, refunds_asked = row
    money = Money(amount=amount, currency=currency)
    return Charge(key=key, amount=money, token=token, state=state, asked=asked, refunds_asked=refunds_asked)
