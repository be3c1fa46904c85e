"""The circuit breaker: while a dependency is down, the processors that call it pause, and one call at a time finds out whether it is back.

    closed   everything runs; calls that fail transiently are counted
    open     no call is made, nothing is read, no attempt of a message is used up; only at `probe_at` one call is let through.
             If it is answered the breaker closes; if it fails, the next one comes after a longer interval

What is counted are calls, when they end, not commits: a call that failed has cost what it costs, whatever becomes of its turn. So counting
needs no row and no lock, and a dependency that goes down while sixty calls are under way costs those and no more. The state itself is a row
in the store of the service, so a restart does not forget that a breaker is open, every instance of the service follows it, and an operator
can close it. It is written beside the turns, by rare work items of its own; whoever dies between a failure and that row makes some calls
more, and no message loses an attempt by it that it would not have lost otherwise.

One probe at a time, over all instances: who probes moves `probe_at` on first, in a transaction that compares it. Who dies while probing
has moved it on, so the next probe comes when it would have come after a failure. A probe that takes longer than the interval is followed by
another instance's; within a process none follows before it has ended.

The same name in several handlers of a service is the same dependency. Services have states of their own, as they have stores of their own.

Neighbours: `service` takes `Breaker`; `circuits` keeps a `Circuit` per dependency in step with its row; `runtime` and `workers` ask it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from millrace.errors import ConfigurationError
from millrace.ports import StoreReader, StoreTransaction

KIND = "@breaker"
"""The kind of the rows, which no class of an application has."""
MANY = 10_000
BREAKER_OPEN = "breaker open"
"""How operators see a processor that waits for what it calls."""


class Tally(msgspec.Struct):
    """What happened last: how many bad things in a row, and what share of the last were bad."""

    run: int = 0
    bad: int = 0
    good: int = 0

    def note_good(self, count: int, *, of: int) -> None:
        """Count things that went well; what is older than the last `of` fades."""
        if count:
            self.run, self.good = 0, self.good + count
            self._fade(of)

    def note_bad(self, *, of: int) -> None:
        """Count one that did not."""
        self.run, self.bad = self.run + 1, self.bad + 1
        self._fade(of)

    def _fade(self, of: int) -> None:
        if (total := self.bad + self.good) > of:
            self.bad, self.good = round(self.bad * of / total), round(self.good * of / total)

    def exceeds(self, what: str, *, run: int, share: float, of: int) -> str:
        """Return in words which limit is reached, empty for none; `what` is counted."""
        if self.run >= run:
            return f"{self.run} {what} in a row"
        total = self.bad + self.good
        return f"{self.bad} of the last {total} {what}" if total >= of and self.bad >= share * total else ""


class Breaker(msgspec.Struct, frozen=True):
    """Pauses the processor of an activity, or of a handler with a transaction, while what it calls is down.

    Transient failures are counted (see `millrace.classification`); any answer, a refusal too, is a success. Give a message more attempts
    than `failures`, or one that is alone uses up its attempts before the breaker opens.

    Args:
        name: of the dependency, as operators see it; handlers of a service that name the same one share its state.
        failures: so many in a row open it.
        share: or this share of about the last `of` calls.
        of: see `share`.
        first_s: until the first probe.
        factor: growth of the interval between probes.
        most_s: longest interval.

    Raises:
        ConfigurationError: a value cannot work.
    """

    name: str
    failures: int = 5
    share: float = 0.5
    of: int = 100
    first_s: float = 1.0
    factor: float = 2.0
    most_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the values."""
        sound = self.failures >= 1 and 0 < self.share <= 1 and self.of >= 1 and self.first_s > 0 and self.factor >= 1
        if not self.name or not sound or self.most_s < self.first_s:
            raise ConfigurationError(
                f"breaker {self.name!r}: it needs a name, failures and of from 1, a share above 0 up to 1, first_s above 0, factor from 1, "
                f"most_s not below first_s; found {self}"
            )

    def interval_s(self, probes: int) -> float:
        """Return the time until the next probe after so many that failed, in seconds."""
        return min(self.first_s * self.factor ** min(probes, 64), self.most_s)


class CircuitRow(msgspec.Struct, frozen=True):
    """What is stored of a breaker that is open; times in microseconds of business time. Nothing is stored of one that is closed."""

    since: int
    probe_at: int
    probes: int = 0
    reason: str = ""


class Circuit:
    """The state of a dependency in this process.

    Args:
        breaker: how it was declared.
        changed: called when it has opened or closed, so that whoever waits looks again.

    Attributes:
        row: what is known of the open state; None while closed.
        unsaved: the row is not stored yet.
        opened: how often it has opened here, for figures.
    """

    def __init__(self, breaker: Breaker, changed: Callable[[], None]) -> None:
        self.breaker = breaker
        self.row: CircuitRow | None = None
        self.unsaved = False
        self.opened = 0
        self._tally = Tally()
        self._changed = changed
        self._prober: str | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Return whether calls are held back."""
        return self.row is not None

    def due(self, now: int) -> bool:
        """Return whether it is time for a probe, and none is under way here."""
        return self.row is not None and self._prober is None and now >= self.row.probe_at

    @property
    def busy(self) -> bool:
        """Return whether somebody here has the right to a probe, or makes one."""
        return self._prober is not None

    def grants(self, who: str) -> bool:
        """Return whether a processor holds the right to one probe and has not begun it."""
        return self._prober == who and not self._probing

    def grant(self, who: str) -> None:
        """Give a processor the right to one probe."""
        self._prober, self._probing = who, False

    def begin_probe(self, who: str) -> bool:
        """Note that a call begins; return whether that is the probe."""
        if self._prober != who or self._probing:
            return False
        self._probing = True
        return True

    def release(self, who: str) -> None:
        """Take the right to a probe back: it has ended, or nobody waits for it any more."""
        if self._prober == who:
            self._prober, self._probing = None, False

    def answered(self, *, probe: bool) -> None:
        """A call was answered. While open only the probe's answer counts: others began before."""
        if self.row is None:
            self._tally.note_good(1, of=self.breaker.of)
        elif probe:
            self.close()

    def failed(self, error: BaseException, *, now: int, probe: bool) -> None:
        """A call failed transiently."""
        if self.row is not None:
            if probe:
                self.row = msgspec.structs.replace(self.row, reason=f"the last probe failed; {_say(error)}")
                self.unsaved = True
            return
        breaker = self.breaker
        self._tally.note_bad(of=breaker.of)
        if reached := self._tally.exceeds("calls", run=breaker.failures, share=breaker.share, of=breaker.of):
            probe_at = now + int(breaker.interval_s(0) * 1_000_000)
            self.row = CircuitRow(now, probe_at, reason=f"{reached} failed; {_say(error)}")
            self.opened += 1
            self.unsaved = True
            self._changed()

    def close(self) -> None:
        """Let everything run again."""
        self.row, self._tally, self._prober, self._probing = None, Tally(), None, False
        self.unsaved = True
        self._changed()

    def follow(self, stored: CircuitRow | None) -> None:
        """Take over what the store says, unless there is news here that it has not heard."""
        if self.unsaved or stored == self.row:
            return
        if stored is None or self.row is None:
            self._tally, self._prober, self._probing = Tally(), None, False
        self.row = stored
        self._changed()


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


async def load_circuits(tables: StoreReader | StoreTransaction) -> dict[str, CircuitRow]:
    """Return the breakers that are open, by the name of their dependency."""
    return {name: msgspec.json.decode(row, type=CircuitRow) for name, row in await tables.states.page(KIND, after="", limit=MANY)}


async def save_circuit(transaction: StoreTransaction, name: str, row: CircuitRow | None) -> None:
    """Store the state of a breaker; None: closed."""
    if row is None:
        await transaction.states.delete([(KIND, name)])
    else:
        await transaction.states.save([(KIND, name, msgspec.json.encode(row))])


__all__ = ["BREAKER_OPEN", "KIND", "Breaker", "Circuit", "CircuitRow", "Tally", "load_circuits", "save_circuit"]
