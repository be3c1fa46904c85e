"""The breakers of a service in this process: one `Circuit` per dependency, kept in step with the store.

Whoever saves, asks for a probe or looks does so one after the other, so what is taken over is never older than what is known.

Neighbours: `hosting` owns one per service and has it look; `runtime` asks it before it takes a turn, through a `Gate`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from millrace.alarm import breaker_alarm, clear_alarm, raise_alarm
from millrace.breaker import KIND, Breaker, Circuit, CircuitRow, load_circuits, save_circuit
from millrace.clock import Clock, to_micros
from millrace.errors import ConfigurationError
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting, Writer


class _Save(Waiting):
    """Stores the state of a breaker, and says that it has opened or closed.

    Where another instance has stored one that is open, the next probe is the later of the two, and nothing is said.
    """

    def __init__(self, circuit: Circuit) -> None:
        super().__init__()
        self._circuit = circuit
        self._seen: CircuitRow | None = None
        self._row: CircuitRow | None = None

    async def run(self, unit: UnitOfWork) -> None:
        """Store it as it is now."""
        self._seen = self._row = self._circuit.row
        name = self._circuit.breaker.name
        stored = await _stored(unit, name)
        if self._row is None:
            await clear_alarm(unit, breaker_alarm(name))
        elif stored is None:
            await raise_alarm(unit, breaker_alarm(name, self._row.reason))
        elif stored.probe_at > self._row.probe_at:
            self._row = msgspec.structs.replace(stored, reason=self._row.reason)
        await save_circuit(unit.transaction, name, self._row)

    def done(self) -> None:
        """What has changed meanwhile is still to be stored."""
        if self._circuit.row == self._seen:
            self._circuit.row, self._circuit.unsaved = self._row, False
        super().done()


async def _stored(unit: UnitOfWork, name: str) -> CircuitRow | None:
    found = (await unit.transaction.states.load(KIND, [name])).get(name)
    return None if found is None else msgspec.json.decode(found, type=CircuitRow)


class _Probe(Waiting):
    """Takes the right to the next probe, if it is time and nobody else was faster; the one after it comes later."""

    def __init__(self, breaker: Breaker) -> None:
        super().__init__()
        self._breaker = breaker
        self.granted = False
        self.row: CircuitRow | None = None

    async def run(self, unit: UnitOfWork) -> None:
        """Compare and move on."""
        name = self._breaker.name
        self.row = await _stored(unit, name)
        self.granted = self.row is not None and unit.now_micros >= self.row.probe_at
        if self.row is not None and self.granted:
            probes = self.row.probes + 1
            probe_at = unit.now_micros + int(self._breaker.interval_s(probes) * 1_000_000)
            self.row = msgspec.structs.replace(self.row, probes=probes, probe_at=probe_at)
            await save_circuit(unit.transaction, name, self.row)


class Circuits:
    """See the module.

    Args:
        writer: of the service.
        wake: has every loop look again.
    """

    def __init__(self, writer: Writer, *, wake: Callable[[], None]) -> None:
        self._writer = writer
        self._wake = wake
        self._all: dict[str, Circuit] = {}
        self._lock = asyncio.Lock()

    def of(self, breaker: Breaker) -> Circuit:
        """Return the circuit of a dependency.

        Raises:
            ConfigurationError: another handler names it with other settings.
        """
        circuit = self._all.setdefault(breaker.name, Circuit(breaker, self._wake))
        if circuit.breaker != breaker:
            raise ConfigurationError(
                f"breaker {breaker.name!r} is declared as {circuit.breaker} and as {breaker}; handlers of one dependency share its settings"
            )
        return circuit

    def all(self) -> list[Circuit]:
        """Return all of them."""
        return list(self._all.values())

    async def look(self) -> None:
        """Follow what the store says: another instance has opened or closed something, or an operator has."""
        if not self._all:
            return
        async with self._lock:
            stored = await load_circuits(self._writer.store.reader)
            for name, circuit in self._all.items():
                circuit.follow(stored.get(name))

    async def save(self, circuit: Circuit) -> None:
        """Store what has changed."""
        async with self._lock:
            if circuit.unsaved:
                work = _Save(circuit)
                self._writer.submit(work)
                await work.finished

    async def claim(self, circuit: Circuit, who: str) -> bool:
        """Take the right to a probe; return whether it was there to take."""
        async with self._lock:
            if circuit.unsaved or not circuit.open:
                return False
            work = _Probe(circuit.breaker)
            self._writer.submit(work)
            await work.finished
            circuit.follow(work.row)
            if work.granted:
                circuit.grant(who)
            return work.granted


class Gate:
    """What a loop asks before it calls anything: may it?

    Args:
        who: the processor.
        circuits: of the service.
        circuit: of what the processor calls; None where it names nothing.
        clock: business time.
        stopped: called when the processor has stopped itself, and the store says so.
    """

    def __init__(
        self, who: str, *, circuits: Circuits, circuit: Circuit | None, clock: Clock, stopped: Callable[[], Awaitable[None]]
    ) -> None:
        self.circuit = circuit
        self.stopped = stopped
        self._who = who
        self._circuits = circuits
        self._clock = clock

    @property
    def shut(self) -> bool:
        """Return whether calls are held back now."""
        return self.circuit is not None and self.circuit.open

    @property
    def probing(self) -> bool:
        """Return whether one message may be called, to see whether the dependency is back."""
        return self.circuit is not None and self.circuit.grants(self._who)

    @property
    def held_first(self) -> bool:
        """Return whether the next probe should be something held, rather than something new: both take turns.

        One message that can never be answered would else be every probe.
        """
        row = self.circuit.row if self.circuit is not None else None
        return row is not None and row.probes % 2 == 1

    async def opens(self) -> bool:
        """Return whether anything may be called now; stores what has changed, takes the right to a probe when it is time."""
        circuit = self.circuit
        if circuit is None:
            return True
        if circuit.unsaved:
            await self._circuits.save(circuit)
        if not circuit.open or circuit.grants(self._who):
            return True
        return circuit.due(to_micros(self._clock.now())) and await self._circuits.claim(circuit, self._who)

    def until_s(self) -> float | None:
        """Return seconds until the next probe; None while one is under way, or waits for something to call."""
        circuit = self.circuit
        if circuit is None or circuit.row is None or circuit.busy:
            return None
        return max(0.0, (circuit.row.probe_at - to_micros(self._clock.now())) / 1_000_000)

    @property
    def busy(self) -> bool:
        """Return whether somebody in this process has the right to a probe, or makes one."""
        return self.circuit is not None and self.circuit.busy

    def due(self) -> bool:
        """Return whether a probe is due; for tests that wait until there is nothing to do."""
        return self.circuit is not None and self.circuit.due(to_micros(self._clock.now()))

    def begin(self) -> None:
        """The probe begins."""
        if self.circuit is not None:
            self.circuit.begin_probe(self._who)

    def end(self, *, called: bool) -> None:
        """The probe's turn is over; if nothing was called the right to it is kept."""
        circuit = self.circuit
        if circuit is not None and circuit.open and not called:
            circuit.grant(self._who)
        else:
            self.leave()

    def leave(self) -> None:
        """Nobody here waits for a probe any more."""
        if self.circuit is not None:
            self.circuit.release(self._who)


__all__ = ["Circuits", "Gate"]
