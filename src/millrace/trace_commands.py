"""The command `millrace trace`: one conversation as a tree of causes.

Exit status 2 where nothing of the name was found.

Neighbours: `cli` adds it; `message_trace` does the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from millrace.application import Application
from millrace.command_line import add_reading, complain, is_coloured, paint, plain, positive, print_json
from millrace.errors import UnknownMessage
from millrace.message_trace import Dealing, MessageTrace, TracedMessage, TracedTimer, trace_message
from millrace.saga_report import SagaSummary
from millrace.terminal import printable
from millrace.trace_search import LIMIT


def add_trace(commands: Any) -> None:
    """Add the command to the grammar."""
    tracing = add_reading(commands, "trace", print_trace, text="why a message is here: causes, who handled it, what waits and until when")
    tracing.add_argument("id", metavar="ID", help="id of a message, name of a held one, or a key: an order's id, say")
    tracing.add_argument("--limit", type=positive, default=LIMIT, metavar="N", help=f"read at most so many records (default: {LIMIT:,})")


async def print_trace(app: Application, options: argparse.Namespace) -> int:
    """Print the conversation of a message."""
    try:
        found = await trace_message(app, options.id, limit=options.limit)
    except UnknownMessage as error:
        return complain(error, 2)
    if options.json:
        return print_json(plain(found))
    print("\n".join(in_words(found)))
    return 0


def in_words(found: MessageTrace) -> list[str]:
    """Return a conversation as lines."""
    messages, timers = len(found.messages), sum(timer.kind != "forget" for timer in found.timers)
    known = f"{messages:,} message{'' if messages == 1 else 's'}, {timers:,} timer{' waits' if timers == 1 else 's wait'}"
    lines = [f"conversation {printable(found.conversation)}: {known}"]
    for root in found.roots():
        if root.cause:
            lines.append(f"from outside: {printable(root.cause)}")
        lines += _branch(found, root, "")
    lines += [f"saga {line}" for line in map(_saga, found.sagas)]
    lines += [f"timer {line}" for line in map(_timer, found.timers)]
    lines.append(f"{found.searched.records:,} records were read" + ("" if found.searched.complete else ", and not all there are:"))
    lines += [f"  unread: {place}" for place in found.searched.unread]
    return lines


def _branch(found: MessageTrace, root: TracedMessage, indent: str) -> Iterator[str]:
    """Yield a message and what it caused; written without recursion, because conversations may be long chains."""
    stack: list[tuple[TracedMessage, str]] = [(root, indent)]
    seen: set[str] = set()
    while stack:
        message, before = stack.pop()
        if message.id in seen:
            continue
        seen.add(message.id)
        yield f"{before}{_message(message)}"
        yield from (f"{before}    {_dealing(each)}" for each in message.dealings)
        stack += [(child, f"{before}  ") for child in reversed(found.caused_by(message.id))]


def _message(message: TracedMessage) -> str:
    where = f"{message.topic}/{message.partition}@{message.offset}" if message.offset is not None else "not in the log"
    mark = "  <-- asked for" if message.asked else ""
    text = f"{message.type}  {message.id}  {where}  {message.time}  key {message.key}"
    text = printable(text)
    return (f"\x1b[1m{text}\x1b[0m" if message.asked and is_coloured() else text) + mark


def _dealing(each: Dealing) -> str:
    parts = [f"{each.consumer}: {paint(each.state)}"]
    parts += [f"attempts {each.attempts}"] if each.attempts else []
    parts += [each.reason] if each.reason else []
    parts += [f"again at {each.due}"] if each.due else []
    parts += [f"until {each.deadline}"] if each.deadline else []
    parts += [f"behind {each.behind}"] if each.behind else []
    parts += [f"in its place {each.successor}"] if each.successor else []
    parts += [f"held as {each.held}"] if each.held else []
    parts += [f"the consumer is {each.wanted}"] if each.wanted else []
    return printable(", ".join(parts)) if not is_coloured() else ", ".join(parts)


def _saga(saga: SagaSummary) -> str:
    parts = [f"{saga.saga} {saga.id} in {saga.service}: {saga.status}"]
    parts += [f"waits for {', '.join(saga.current)}"] if saga.current else []
    parts += [f"until {saga.deadline.isoformat()}"] if saga.deadline is not None else []
    parts += [f"stuck at {', '.join(saga.stuck)}"] if saga.stuck else []
    return printable(", ".join(parts))


def _timer(timer: TracedTimer) -> str:
    if timer.kind == "forget":
        return printable(f"forgets {timer.key} of {timer.consumer}, which waits for nothing, at {timer.due}")
    state = "" if timer.held is None else f", {timer.state} after {timer.attempts} attempts, held as {timer.held}"
    text = f"{timer.name} of {timer.key}, due {timer.due}: {timer.type} to {timer.consumer}, set because of {timer.cause or '-'}{state}"
    return printable(text)


__all__ = ["add_trace", "in_words", "print_trace"]
