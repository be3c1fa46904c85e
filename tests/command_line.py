"""What tests of the command line share: running a command in this process, and judging what it printed.

Neighbours: fixtures in `tests/unit/conftest.py`; the application is `tests/sample_shop.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from tests.sample_shop import application, place, settle

UNREADABLE = b"no event \x1b[31m \xff"
UNFIT = (
    b'{"id":"1","source":"/elsewhere","type":"shop.orders.order-placed.v1","specversion":"1.0",'
    b'"partitionkey":"o9","data":{"order_id":9,"customer":"Ada Lovelace"}}'
)


class Ran(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one JSON value that it printed."""
        return json.loads(self.out)


Millrace = Callable[..., Ran]


async def fill(folder: Path) -> None:
    """Run the shop until ten orders, three of them cursed, and two foreign records have been dealt with."""
    async with application() as app:
        for number in range(7):
            await place(app, f"o{number}", f"sku{number % 2}")
        for number in range(3):
            await place(app, f"bad{number}", "cursed")
        await app.parts.administration.put("inventory", [("x", UNREADABLE)])
        await app.parts.administration.put("orders", [("o9", UNFIT)])
        await settle(app)


def change(file: Path, *statements: str) -> None:
    """Change a database by hand."""
    connection = apsw.Connection(str(file))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def complaint(ran: Ran) -> str:
    """Return the one line that a failed command printed, having checked that it is one."""
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("millrace")
    return ran.err
