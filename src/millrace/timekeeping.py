"""One clock for all processes of an installation that can be moved: the moves are facts on a topic that everybody follows.

Theory. The topic `internal.clock` has one partition, so the moves have one order. A move says either how much further the clock is to
go, or how far ahead of real time it is to be at least; folded in order they give one offset, the same for everybody who has read equally
far, and it never shrinks. Two that advance at once both count. A record carries what its writer had folded, and up to where, so a
process that starts reads from there on and not the whole history.

    move      append it, wait until this process has folded it, then until all others say that they have (`control`): what is answered
              holds everywhere, and is kept over every restart. Who does not answer in time, because it has just died, is not waited for
    follow    each process folds what comes and wakes its loops; a commit that began before carries the time before
    start     fold everything that is there before the first message is handled: time does not go back over a restart

Until then the clocks of two processes may differ for the milliseconds that a record takes, as clocks of machines do.

Which clock an installation has is settled by its first start and can be seen from the log: the topic is there, or it is not. A process
with another clock is refused, since facts would be dated in two times: one whose clock stands on the machine's is told to take a virtual
one, and a virtual one finds no topic beside those of an installation that has run without it. A process without the log cannot follow,
so it is refused as well; it knows from what the relay process noted in its store. What is not told apart is two first starts on servers
in the same second with different settings.

What is moved and what is not stands in `clock`. A move is for the handlers what a pause of the whole installation is: what fell due
meanwhile fires in the order of its due times per partition, and `Context.now` is the new time for all of it. Who wants the moments in
between moves in smaller steps.

Neighbours: `control` carries the answers; `application` opens, starts and stops a `Timekeeper`; `Application.move_clock` is for users.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import msgspec

from millrace.broadcast import Broadcast
from millrace.clock import LAST_MOMENT, Clock, VirtualClock, to_micros
from millrace.control import Call, Members, call
from millrace.errors import ClockRefused, OtherClock, StoreUnavailable
from millrace.following import TOGETHER, Follower
from millrace.ports import LogParts, TopicSpec

CLOCK = TopicSpec("internal.clock", partitions=1, retention_s=None)
AGAIN_S = 1.0
FOLLOWED_S = 15.0
"""How long a move waits until it has been read back."""
EVERYBODY_S = 5.0
"""How long it waits for other processes."""

log = logging.getLogger("millrace")


class Moved(msgspec.Struct, frozen=True, omit_defaults=True):
    """A move: further by `step`, or at least `ahead`; microseconds. Below `upto` the topic comes to `before`."""

    id: str = ""
    step: int = 0
    ahead: int = 0
    before: int = 0
    upto: int = 0

    def after(self, offset: int) -> int:
        """Return the offset after it."""
        return max(offset + max(self.step, 0), self.ahead)


class Timekeeper:
    """Follows the moves of a virtual clock, and makes them; for any other clock it only sees that the installation has no virtual one.

    Args:
        clock: the application's.
        moved: called when it was moved.
        instances: who else is there.
    """

    def __init__(self, clock: Clock, *, moved: Callable[[], None], instances: Members) -> None:
        self._clock = clock
        self._moved = moved
        self._instances = instances
        self._parts: LogParts | None = None
        self._topic: Follower[Moved] | None = None
        self._offset = 0
        self._upto = 0
        self._task: asyncio.Task[None] | None = None
        self._folded = Broadcast()
        self._awaited: dict[str, asyncio.Future[None]] = {}

    @property
    def topics(self) -> tuple[TopicSpec, ...]:
        """Return the topic that it needs, if it needs one."""
        return (CLOCK,) if isinstance(self._clock, VirtualClock) else ()

    def check(self, found: Collection[str], *, ours: Collection[str], on_log: bool = True) -> None:
        """See that the installation has this kind of clock.

        Args:
            found: the topics that are there.
            ours: those that every installation has.
            on_log: whether this process uses the log.

        Raises:
            OtherClock: it has the other kind, or cannot be followed from here.
        """
        virtual = isinstance(self._clock, VirtualClock)
        if virtual and not on_log:
            raise OtherClock("a process without the log cannot follow a virtual clock; let it relay or consume")
        if not virtual and CLOCK.name in found:
            raise OtherClock(
                f"this installation has a virtual clock, whose moves are in topic {CLOCK.name}; a process with another clock would date "
                "facts otherwise, so give every process a VirtualClock, or begin with an empty place"
            )
        if virtual and CLOCK.name not in found and set(ours) & set(found):
            raise OtherClock(
                "this installation began with the clock of its machines, and processes of it would not follow a virtual one; "
                "a virtual clock is chosen at the first start, in an empty place"
            )

    async def load(self, parts: LogParts) -> None:
        """Fold every move there is.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        if isinstance(self._clock, VirtualClock):
            self._parts = parts
            self._fold(await self._history(parts))
            self._topic = Follower(parts, CLOCK.name, read=_read, offset=self._upto)
            self._show()

    async def _history(self, parts: LogParts) -> list[Moved]:
        """Return the moves that are there and that no later one has folded already."""
        end = await _end(parts)
        last = await parts.log.read(CLOCK.name, 0, offset=end - 1, limit=1) if end else []
        newest = _read(last[-1].value) if last and last[-1].position >= 0 else None
        if newest is not None:
            self._upto, self._offset = newest.upto, newest.before
        moves: list[Moved] = []
        while self._upto < end:
            records = await parts.log.read(CLOCK.name, 0, offset=self._upto, limit=TOGETHER)
            if not records:
                break
            self._upto = records[-1].offset + 1
            moves += [move for record in records if record.position >= 0 and (move := _read(record.value)) is not None]
        return moves

    def start(self) -> None:
        """Follow from now on."""
        if self._topic is not None:
            self._task = asyncio.create_task(self._follow(self._topic), name="clock")

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._topic is not None:
            self._topic.close()
            self._topic = None

    async def move(self, *, by: timedelta | None = None, to: datetime | None = None) -> datetime:
        """Move the clock of the installation; returns the new time when this process has it.

        It is called while the clock is followed (`start`).

        Raises:
            ClockRefused: the clock cannot be moved, would go back, or would leave the calendar; nothing has happened.
            StoreUnavailable: the log cannot be written; the move has happened or not, as `now` will show.
        """
        parts, topic, clock = self._parts, self._topic, self._clock
        if not isinstance(clock, VirtualClock) or parts is None or topic is None or self._task is None:
            raise ClockRefused("not_virtual", "the clock of this installation is that of its machines; nobody can move it")
        wanted = self._wanted(clock, by=by, to=to)
        if not wanted.step and wanted.ahead <= self._offset:
            return clock.now()
        move = msgspec.structs.replace(wanted, id=os.urandom(12).hex(), before=self._offset, upto=topic.offset)
        read = self._awaited[move.id] = asyncio.get_running_loop().create_future()
        try:
            await parts.administration.put(CLOCK.name, [("clock", msgspec.json.encode(move))])
            async with asyncio.timeout(FOLLOWED_S):
                await read
        except TimeoutError:
            detail = f"the clock was moved, but this process has not read that within {FOLLOWED_S:g} s"
            raise StoreUnavailable("log", reason="unreachable", detail=detail) from None
        finally:
            del self._awaited[move.id]
        await self._tell(parts)
        return clock.now()

    async def _tell(self, parts: LogParts) -> None:
        """Wait until everybody has what this process has."""
        order = Call(os.urandom(12).hex(), CLOCK.name, str(self._offset))
        heard = await call(parts, self._instances, order, timeout=EVERYBODY_S)
        if not heard.complete:
            log.warning("the clock was moved; %s did not say within %g s that they follow", ", ".join(heard.silent), EVERYBODY_S)

    async def followed(self, offset: str) -> str | None:
        """Return when this process is as far ahead as another one says that it is; None where nobody follows."""
        while self._task is not None and self._offset < int(offset):
            await self._folded.wait(self._folded.calls)
        return offset if self._task is not None else None

    def _wanted(self, clock: VirtualClock, *, by: timedelta | None, to: datetime | None) -> Moved:
        now = clock.now()
        if (by is None) == (to is None):
            raise ClockRefused("unclear", "say either by how much the clock is to be moved, or to which moment")
        if to is not None and to.tzinfo is None:
            raise ClockRefused("unclear", f"{to} has no offset from UTC")
        if by is not None and by < timedelta():
            raise ClockRefused("backwards", f"a clock never goes back; it was to be moved by {by.total_seconds():g} s")
        if to is not None and to < now:
            raise ClockRefused("backwards", f"a clock never goes back; it shows {now.isoformat()} already")
        if (by is not None and by > LAST_MOMENT - now) or (to is not None and to > LAST_MOMENT):
            raise ClockRefused("too_far", f"a clock cannot be moved beyond the year {LAST_MOMENT:%Y}")
        if by is not None:
            return Moved(step=by // timedelta(microseconds=1))
        assert to is not None  # noqa: S101  # one of the two is there
        return Moved(ahead=to_micros(to) - to_micros(clock.base.now()))

    def _fold(self, moves: list[Moved]) -> None:
        for move in moves:
            self._offset = move.after(self._offset)

    def _show(self) -> None:
        """Set the clock, and wake who waits for a time."""
        assert isinstance(self._clock, VirtualClock)  # noqa: S101  # nobody else follows
        limit = to_micros(LAST_MOMENT) - to_micros(self._clock.base.now())
        if self._clock.follow(min(self._offset, limit)):
            self._moved()
        self._folded.call()

    async def _follow(self, topic: Follower[Moved]) -> None:
        while True:
            try:
                moves = await topic.next()
                self._fold(moves)
                self._show()
                for move in moves:
                    if (waiting := self._awaited.get(move.id)) is not None and not waiting.done():
                        waiting.set_result(None)
            except StoreUnavailable as error:
                log.debug("following the clock: %s", error)
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("following the clock failed; trying again")
                await asyncio.sleep(AGAIN_S)


async def _end(parts: LogParts) -> int:
    """Return the end of the topic, 0 where there is none; asked of the log itself, for a feed may not have heard yet."""
    return next((info.ranges[0][1] for info in await parts.log.topics() if info.name == CLOCK.name), 0)


def _read(value: bytes) -> Moved | None:
    """Return what a record says; what nobody here understands is not for this release."""
    try:
        return msgspec.json.decode(value, type=Moved)
    except msgspec.MsgspecError:
        return None


__all__ = ["CLOCK", "Moved", "Timekeeper"]
