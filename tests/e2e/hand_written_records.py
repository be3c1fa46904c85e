"""Records that nobody should write, for every topic of a shop.

Neighbours: `test_bad_records` puts them on the topics and looks at what becomes of them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from millrace import Application
from millrace.inspection import Inspection
from millrace.message import declaration
from tests.shop_places import variables_of

ELSEWHERE = "/elsewhere"
KNOWN = "parcomolo.orders.order-placed.v1"
BRACKETS = 100_000
MALFORMED = (
    b"no event \x1b[31m \xff\x00",
    b"",
    b"null",
    b"[]",
    b'"text"',
    b'{"id": "1", "source": "/elsewhere"}',
    b'{"id": 1, "source": "/elsewhere", "type": "parcomolo.orders.order-placed.v1", "specversion": "1.0"}',
    b'{"id": "1", "source": "/elsewhere", "type": "parcomolo.orders.order-placed.v1", "specversion": "0.3"}',
    b'{"id": "1", "source": "/elsewhere", "type": "parcomolo.orders.order-placed.v1", "specversion": "1.0", "data": {"order_id"',
)
"""What no reader can open: no JSON, no CloudEvent, or cut off."""
DEEP = (
    b"[" * BRACKETS,
    b"[" * BRACKETS + b"]" * BRACKETS,
    b'{"id": "1", "source": "/elsewhere", "type": "com.example.deep", "specversion": "1.0", "data": %s%s}'
    % (b"[" * BRACKETS, b"]" * BRACKETS),
)
"""What no reader can open either: nested without end."""


def event(type_: str, data: object, **attributes: str) -> bytes:
    """Return a CloudEvent of somebody else."""
    content = {"specversion": "1.0", "id": "1", "source": ELSEWHERE, "type": type_, **attributes, "data": data}
    return json.dumps(content).encode()


def oversized(type_: str) -> bytes:
    """Return a record of a known type with more than a MiB."""
    return event(type_, {"order_id": "x" * (1 << 20)}, id="oversized", partitionkey="oversized")


def misfits(app: Application, topic: str) -> list[bytes]:
    """Return a record per type of a topic whose data do not fit it, as if from the owner of that topic."""
    return [
        event(
            app.catalogue.type_of(cls),
            {declaration(cls).key: 9},
            id="misfit",
            source=f"/parcomolo/{topic.removeprefix('internal.').split('.')[0]}",
            partitionkey="misfit",
        )
        for cls in app.catalogue.classes()
        if declaration(cls).topic == topic
    ]


def strangers(topic: str) -> list[bytes]:
    """Return records that can be read and concern nobody: unknown types, a later version, a repeat."""
    invoice = event("com.example.invoice", {"amount": 1}, id=f"invoice {topic}", partitionkey="invoice")
    later = event("parcomolo.orders.order-placed.v99", {"order": 1}, id=f"later {topic}", source="/parcomolo/orders", partitionkey="later")
    spread = json.dumps(json.loads(invoice) | {"id": "spread"}, indent=2).encode()
    return [invoice, invoice, later, spread]


def described(monkeypatch: pytest.MonkeyPatch, data: Path) -> Application:
    """Return the application on a folder, not started."""
    from parcomolo.bootstrap import application

    for name, value in {"PARCOMOLO_DATA": str(data), **variables_of(data)}.items():
        monkeypatch.setenv(name, value)
    return application()


async def counted(app: Application, counter: str) -> dict[str, int]:
    """Return what one counter of every processor says, summed per topic."""
    found: dict[str, int] = defaultdict(int)
    async with Inspection(app) as inspection:
        for _, store in inspection.services():
            for processor in await store.reader.positions.processors():
                for row in await store.reader.positions.load(processor):
                    found[row.topic] += getattr(row, counter)
    return found


def unlike_ours(events: Collection[bytes], *, suffix: str) -> list[bytes]:
    """Return copies of records as if somebody else had said the same."""
    changes: dict[str, Any] = {"source": ELSEWHERE, "sequence": "", "epoch": ""}
    return [json.dumps(found | changes | {"id": found["id"] + suffix}).encode() for found in map(json.loads, events)]
