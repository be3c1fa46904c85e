"""Millrace: a toolkit for event-driven systems.

Outbox, inbox, event store, read models, durable timers and dead letters with one set of guarantees, on SQLite files by default.
Everything public is importable from here; engines are in `millrace.engines`, the testing kit in `millrace.testing`.
"""

from millrace.agenda import Agenda
from millrace.aggregate import Recorded
from millrace.application import Application
from millrace.breaker import Breaker
from millrace.clock import Clock, ManualClock, SystemClock, VirtualClock
from millrace.consumers import Consumers
from millrace.dead_letters import DeadLetters
from millrace.delivery import Context
from millrace.errors import (
    ConfigurationError,
    IdempotencyConflict,
    MillraceError,
    NotYet,
    Overloaded,
    PositionUnknown,
    Rejected,
    StoreUnavailable,
    UnknownMessage,
    VersionConflict,
)
from millrace.execution import IdempotencyKey, Outcome
from millrace.handler import Transaction
from millrace.letter_watch import LetterBounds
from millrace.letters import LetterQuery
from millrace.message import Command, Event, Message, Personal, masked, name_of, personal_fields
from millrace.plain_json import PlainJson
from millrace.ports import TopicSpec
from millrace.position import Position
from millrace.reading import Page
from millrace.retry import RetryPolicy
from millrace.role import Role
from millrace.service import Service
from millrace.split import SplitEngine
from millrace.state import Delete, State, View
from millrace.timers import Cancel, Timer

__all__ = [
    "Agenda",
    "Application",
    "Breaker",
    "Cancel",
    "Clock",
    "Command",
    "ConfigurationError",
    "Consumers",
    "Context",
    "DeadLetters",
    "Delete",
    "Event",
    "IdempotencyConflict",
    "IdempotencyKey",
    "LetterBounds",
    "LetterQuery",
    "ManualClock",
    "Message",
    "MillraceError",
    "NotYet",
    "Outcome",
    "Overloaded",
    "Page",
    "Personal",
    "PlainJson",
    "Position",
    "PositionUnknown",
    "Recorded",
    "Rejected",
    "RetryPolicy",
    "Role",
    "Service",
    "SplitEngine",
    "State",
    "StoreUnavailable",
    "SystemClock",
    "Timer",
    "TopicSpec",
    "Transaction",
    "UnknownMessage",
    "VersionConflict",
    "View",
    "VirtualClock",
    "masked",
    "name_of",
    "personal_fields",
]
