"""Server-sent events: the facts of the public topics as they come, from any point on.

Each fact is one message whose `id` resumes right behind it. Messages are sent in frames of up to 200, at most ten
frames a second while facts trickle in; who has fallen behind gets full frames as fast as it takes them. A slow client
holds up nobody: facts are read from the log when it is ready for more, so what it has not taken is not in memory.
Personal fields are masked.

Neighbours: `Application.tail` reads; `transport` ends a stream whose client has gone, `bootstrap` ends all at the stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import cache
from typing import Annotated, Any

import msgspec

from millrace import Application, Message, UnknownMessage, personal_fields
from parcomolo.web.endpoint import Answer, Call, Endpoint, encode
from parcomolo.web.problems import Problem

CONTENT_TYPE = "text/event-stream"
COMMENT_EVERY_S = 15.0
FRAME_MAX = 200
FRAME_EVERY_S = 0.01
RETRY = b"retry: 1000\n\n"
COMMENT = b": still here\n\n"
RESET = b"event: reset\ndata: {}\n\n"
MASK = "***"


class EventsQuery(msgspec.Struct, kw_only=True):
    """Which topics, and from where on."""

    topics: Annotated[str, msgspec.Meta(max_length=1000, description="comma list; default: all public topics")] | None = None
    after: (
        Annotated[
            str,
            msgspec.Meta(max_length=8000, description="`id` of the last message seen, or `start`; default: from now on"),
        ]
        | None
    ) = None


class Streams:
    """The streams of this process; closing ends all of them, and those that come later at once."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every stream."""
        self._closing.set()

    async def until_closed(self, batches: AsyncIterator[list[Any]]) -> AsyncIterator[list[Any]]:
        """Pass batches on until the streams are closed."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while not self._closing.is_set():
                following = asyncio.ensure_future(anext(batches))
                await asyncio.wait((following, closing), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    return
                yield following.result()
        finally:
            closing.cancel()
            await batches.aclose()  # type: ignore[attr-defined]

    async def pause(self, seconds: float) -> None:
        """Wait, or until the streams are closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


class EventRoutes:
    """The handler.

    Args:
        app: the running application.
        streams: what ends streams at the stop.
    """

    def __init__(self, app: Application, streams: Streams) -> None:
        self._app = app
        self._streams = streams

    async def follow(self, call: Call) -> Answer:
        """Answer with a stream."""
        query = call.ask(EventsQuery)
        topics = _topics(query.topics)
        unknown = [name for name in topics or () if name.startswith("internal.")]
        after = call.header(b"last-event-id") or query.after
        try:
            if unknown:
                raise UnknownMessage(f"topics {unknown} are not public")
            now, tail = self._app.tail(topics), self._app.tail(topics, after=after)
        except UnknownMessage as error:
            raise Problem(400, "unknown-topic", "There is no such topic.", detail=str(error)) from error
        except ValueError as error:
            raise Problem(400, "malformed-cursor", "The cursor cannot be read.", detail=str(error)) from error
        lost = bool(after) and after != "start" and _is_beyond(after, self._app.tail().cursor)
        stream = self._frames(now if lost else tail, lost=lost)
        headers = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")]
        return Answer(content_type=CONTENT_TYPE, headers=headers, stream=stream)

    async def _frames(self, tail: Any, *, lost: bool) -> AsyncIterator[bytes]:
        yield RETRY + (RESET if lost else b"")
        async for batch in self._streams.until_closed(tail.batches(idle_s=COMMENT_EVERY_S)):
            if not batch:
                yield COMMENT
                continue
            for start in range(0, len(batch), FRAME_MAX):
                yield b"".join(self._message(record) for record in batch[start : start + FRAME_MAX])
            if len(batch) < FRAME_MAX:
                await self._streams.pause(FRAME_EVERY_S)

    def _message(self, record: Any) -> bytes:
        return b"id: %s\ndata: %s\n\n" % (record.cursor.encode(), masked_event(self._app, record.value))


class _Head(msgspec.Struct):
    type: str = ""


_head = msgspec.json.Decoder(_Head).decode
_whole = msgspec.json.Decoder(dict[str, Any]).decode


def masked_event(app: Application, value: bytes) -> bytes:
    """Return a record as one line of JSON with its personal fields masked; what is no event is told as such."""
    try:
        cls = app.catalogue.class_of(_head(value).type)
        personal = _personal(cls) if cls is not None else ()
        if not personal and b"\n" not in value and b"\r" not in value:
            return value
        event = _whole(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b'{"type":"undecodable"}'
    data = event.get("data")
    if isinstance(data, dict):
        event["data"] = {name: MASK if name in personal and told else told for name, told in data.items()}  # type: ignore[misc]
    return encode(event)


@cache
def _personal(cls: type[Message]) -> tuple[str, ...]:
    return personal_fields(cls)


def _topics(text: str | None) -> list[str] | None:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    return names or None


def _is_beyond(cursor: str, end: str) -> bool:
    """Return whether a cursor names places that are not there or lie behind the end of the log: it is of another installation."""
    ends = dict(_offsets(end))
    return any(place not in ends or offset > ends[place] for place, offset in _offsets(cursor))


def _offsets(cursor: str) -> Iterable[tuple[str, int]]:
    for part in filter(None, cursor.split(",")):
        place, _, offset = part.rpartition("=")
        yield place, int(offset)


def endpoints(app: Application, streams: Streams) -> tuple[Endpoint, ...]:
    """Return the route."""
    return (
        Endpoint(
            method="GET",
            path="/events",
            handler=EventRoutes(app, streams).follow,
            summary="Follow the facts",
            description="Server-sent events: one CloudEvent per message, personal fields masked. The `id` of a message "
            "resumes right behind it, as `Last-Event-ID` (preferred) or `after`. A comment comes every 15 s. An event "
            "`reset` says that the cursor lies beyond the log, so it was of another installation, and the stream goes on from now. Topics "
            "and partitions that a cursor does not name are told from now on.",
            query=EventsQuery,
            answers={200: CONTENT_TYPE},
            problems=(400, 422),
            tag="platform",
        ),
    )
