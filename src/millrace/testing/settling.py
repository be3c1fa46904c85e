"""Waiting for a running application without sleeping: until it is settled, or until something holds.

`settled` looks at what is durable: every record read by every processor, every journal row published, no work queued, no timer or retry
due. It looks again at each change of the log, and every hundredth of a second, because a loop learns of its commit after it.

Neighbours: tests of users and the conformance suite wait with these; the runtime knows nothing of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta

from millrace.application import Application
from millrace.broadcast import Broadcast
from millrace.clock import ManualClock, VirtualClock, to_micros
from millrace.hosting import Host
from millrace.retry import BEHIND, RETRY
from millrace.runtime import Loop

LOOK_S = 0.01
Condition = Callable[[], bool | Awaitable[bool]]


class NotSettled(AssertionError):
    """The time ran out; the message lists what was still to be done."""


async def settled(app: Application, *, timeout: float = 5.0) -> None:  # as `Application.wait_for`
    """Wait until the application has nothing to do.

    Messages that wait for something else (`NotYet`, a retry or timer that is not due, whatever is behind a dead letter) do not count, nor
    does what a paused or stopped processor has not read, or one whose breaker is open.

    Raises:
        NotSettled: after `timeout` seconds.
    """
    before: object = None

    async def nothing_to_do() -> bool:
        nonlocal before
        now = (await pending(app), _commits(app))
        still = not now[0] and now == before
        before = now
        return still

    try:
        await eventually(app, nothing_to_do, timeout=timeout)
    except NotSettled:
        found = "\n".join(await pending(app)) or "commits go on and on"
        raise NotSettled(f"not settled after {timeout:g} s:\n{found}") from None


async def eventually(app: Application, condition: Condition, *, timeout: float = 5.0) -> None:  # as above
    """Wait until `condition()` is true; it may be async.

    Raises:
        NotSettled: after `timeout` seconds.
    """
    wake, waited = Broadcast(), 0.0
    forget = app.parts.feed.on_change(wake.call)
    try:
        while True:
            seen = wake.calls
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            if waited >= timeout:
                raise NotSettled(f"it did not happen within {timeout:g} s: {_source_of(condition)}")
            if not await wake.wait(seen, LOOK_S):
                waited += LOOK_S
    finally:
        forget()


async def advance(app: Application, clock: ManualClock | VirtualClock, step: timedelta, *, timeout: float = 5.0) -> None:  # as above
    """Move the clock, let every processor look at it, and wait until that is dealt with.

    A `VirtualClock` is moved in every process of the application, as `Application.move_clock` does it.
    """
    if isinstance(clock, VirtualClock):
        await app.move_clock(by=step)
    else:
        clock.advance(step)
    look(app)
    await settled(app, timeout=timeout)


def look(app: Application) -> None:
    """Let every processor look at the clock, which was moved without telling anybody."""
    for host in app.hosts.values():
        for loop in host.loops.values():
            loop.wake()


async def pending(app: Application) -> list[str]:
    """Return what the application still has to do, one line each."""
    return [line for host in app.hosts.values() for line in await _pending_of(app, host)]


async def _pending_of(app: Application, host: Host) -> list[str]:
    name = host.service.name
    found = [f"{name}: {host.writer.waiting} work items wait for the writer"] if host.writer.waiting else []
    head = await host.store.reader.journal.head()
    if host.relay.published < head:
        found.append(f"{name}: published up to {host.relay.published} of {head}; {host.relay.last_error or 'no error'}")
    for loop in list(host.loops.values()):
        found += [f"{name}.{loop.name}: {line}" for line in await _pending_in(app, host, loop)]
    return found


async def _pending_in(app: Application, host: Host, loop: Loop) -> list[str]:
    if loop.resting:
        return await _probing(host, loop) if loop.orders.running else []
    loop.hurry()
    reader, now = host.store.reader, to_micros(app.clock.now())
    rows = {(row.topic, row.partition): row.offset for row in await reader.positions.load(loop.name)}
    found = [
        f"read {topic}/{partition} up to {rows.get((topic, partition), 0)} of {end}; {loop.last_error or 'no error'}"
        for (topic, partition), end in app.parts.feed.ends().items()
        if topic in loop.topics and rows.get((topic, partition), 0) < end
    ]
    if not loop.assigned:
        found.append(f"has not taken its partitions yet; {loop.last_error or 'no error'}")
    found += [f"a timer of partition {partition} is due" for partition, due in (await reader.timers.next(loop.name)).items() if due <= now]
    blocked = await reader.held.blocked(loop.name)  # who is first of a key and behind nobody any more is tried at once
    return found + [f"key {each.key!r} is due for a try" for each in blocked if each.state in {BEHIND, RETRY} and each.due <= now]


async def _probing(host: Host, loop: Loop) -> list[str]:
    """Return whether a probe is due, or under way, or has something to begin with."""
    if loop.gate.due():
        return ["a probe is due"]
    if not loop.gate.busy:
        return []
    waiting = [first for first in await host.store.reader.held.blocked(loop.name) if first.state == RETRY]
    return ["a probe is under way"] if waiting or loop.lag() else []


def _commits(app: Application) -> int:
    return sum(host.writer.commits for host in app.hosts.values())


def _source_of(condition: Condition) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)


__all__ = ["NotSettled", "advance", "eventually", "look", "pending", "settled"]
