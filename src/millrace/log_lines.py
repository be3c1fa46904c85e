"""Lines of the log: as text for people, or as one JSON object each for machines.

Fields that a caller names with `extra=` (see `notes`) are members of the object, or follow the text in brackets. Line breaks inside an
entry are part of a JSON string, so one line is one entry.

Neighbours: command lines call `set_up_log`; an application that configures logging itself may take the formatters alone.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from millrace.errors import ConfigurationError

JSON, TEXT = "json", "text"
FORMATS = (TEXT, JSON)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a caller has named with `extra=`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}


class JsonLines(logging.Formatter):
    """One JSON object per entry: time, level, logger, message, then the fields; exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= fields_of(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode(entry).decode()


class TextLines(logging.Formatter):
    """Time, level, logger and text, then the fields in brackets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as the standard library calls it
        """Return the line without a traceback."""
        line = super().formatMessage(record)
        fields = " ".join(f"{name}={value}" for name, value in fields_of(record).items())
        return f"{line} [{fields}]" if fields else line


def set_up_log(form: str = TEXT, *, level: int = logging.WARNING, stream: TextIO | None = None) -> None:
    """Let the log of this process go to stderr in a format, unless somebody has set it up before.

    Raises:
        ConfigurationError: there is no such format.
    """
    if form not in FORMATS:
        raise ConfigurationError(f"log format {form!r}; choose from {', '.join(FORMATS)}")
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == JSON else TextLines())
    root.addHandler(handler)
    root.setLevel(level)


__all__ = ["FORMATS", "JSON", "TEXT", "JsonLines", "TextLines", "set_up_log"]
