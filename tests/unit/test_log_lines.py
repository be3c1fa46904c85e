"""Lines of the log: one JSON object each, or text with the fields behind it; what a message holds is in neither."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from millrace import Application, Event, RetryPolicy, Service
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import ConfigurationError
from millrace.log_lines import JsonLines, TextLines, set_up_log
from millrace.testing import settled

SECRET = "Ada Lovelace"


class Greeted(Event, topic="greetings", key="name"):
    """Somebody was greeted."""

    name: str
    words: str


async def fail_once(folder: Path, formatter: logging.Formatter) -> list[str]:
    """What the log says of a message that fails for good; its error repeats what it holds."""
    hall = Service("hall")

    @hall.handler
    def greet(event: Greeted) -> None:
        """Fail."""
        raise ValueError(event.words)

    stream, log = io.StringIO(), logging.getLogger("millrace.messages")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        async with Application("test", [hall], engine=SqliteEngine(folder), policy=RetryPolicy(attempts=2, first_s=0.0)) as app:
            value = b'{"specversion":"1.0","id":"7","source":"/x","type":"test.greetings.greeted.v1","correlationid":"c","data":'
            value += json.dumps({"name": "k", "words": SECRET}).encode() + b"}"
            await app.parts.administration.put("greetings", [("k", value)])
            await settled(app)
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    return stream.getvalue().splitlines()


async def test_json_lines_name_the_message(tmp_path: Path) -> None:
    """A retry and a dead letter are one object each, with everything that names the message and nothing of what it holds."""
    lines = await fail_once(tmp_path / "data", JsonLines())
    assert SECRET not in "".join(lines)
    retry, dead = (json.loads(line) for line in lines)
    named = {
        "processor": "hall.handlers",
        "topic": "greetings",
        "offset": 0,
        "message_id": "7",
        "correlation_id": "c",
        "reason": "ValueError",
    }
    assert [(each["level"], each["attempts"]) for each in (retry, dead)] == [("info", 1), ("warning", 2)]
    for each in (retry, dead):
        assert named.items() <= each.items()
        assert each["time"].endswith("Z")


async def test_text_lines_end_in_their_fields(tmp_path: Path) -> None:
    """People read the same fields in brackets."""
    lines = await fail_once(tmp_path / "data", TextLines())
    assert SECRET not in "".join(lines)
    assert "message_id=7 correlation_id=c" in lines[1]
    assert lines[1].endswith("attempts=2]")


def test_line_breaks_and_errors_stay_on_their_line() -> None:
    """One line is one entry, whatever the text and the traceback hold."""
    record = logging.makeLogRecord({"msg": "two\nlines", "levelname": "ERROR", "name": "x", "odd": Path("/a")})
    try:
        raise OSError("no")
    except OSError as error:
        record.exc_info = (OSError, error, error.__traceback__)
    line = JsonLines().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["message"], entry["odd"]) == ("two\nlines", "/a")
    assert "OSError: no" in entry["exception"]


def test_another_format_is_refused() -> None:
    """What is allowed is named."""
    with pytest.raises(ConfigurationError, match="text, json"):
        set_up_log("xml")
