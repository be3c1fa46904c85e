"""Millrace: a toolkit for event-driven systems.

Outbox, inbox, event store, read models, durable timers and dead letters with one set of guarantees, on SQLite files by default.
What declares and runs an application is importable from here; what looks after one is in `millrace.operators`, the reasons of a saga's end
in `millrace.saga`, engines in `millrace.engines`, the testing kit in `millrace.testing`.
"""

from millrace.aggregate import Recorded
from millrace.application import Application
from millrace.breaker import Breaker
from millrace.clock import Clock, ManualClock, SystemClock, VirtualClock
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
from millrace.message import Command, Event, Message, Personal, masked, name_of, personal_fields
from millrace.plain_json import PlainJson
from millrace.ports import TopicSpec
from millrace.position import Position
from millrace.reading import Page
from millrace.retry import RetryPolicy
from millrace.role import Role
from millrace.saga import Saga
from millrace.service import Service
from millrace.split import SplitEngine
from millrace.state import Delete, State, View
from millrace.timers import Cancel, Timer

__all__ = [
    "Application",
    "Breaker",
    "Cancel",
    "Clock",
    "Command",
    "ConfigurationError",
    "Context",
    "Delete",
    "Event",
    "IdempotencyConflict",
    "IdempotencyKey",
    "LetterBounds",
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
    "Saga",
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
