"""A connection of the engine's, and what it leaves behind on the event loop."""

from __future__ import annotations

import asyncio

from millrace.engines.postgres.session import Session, Timeouts
from millrace.testing.conformance.postgres_kit import server_address


async def test_a_closed_listener_is_not_watched() -> None:
    """The number of its socket is the next connection's; watched under the old one, that could not be waited for."""
    session = await Session.connect(server_address(), "s", timeouts=Timeouts())
    number = session._pg.socket
    session.listen(lambda: None)
    session.close()
    assert not asyncio.get_running_loop().remove_reader(number)
    assert not session.usable
