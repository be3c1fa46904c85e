"""What all processes of an installation agree on: the checkout style, stored at the first start.

    stores in files        one folder is the installation: a file in it says the style (`configuration`)
    stores on a server     processes may have folders of their own, so a row in each service's store says it

Every process looks into the store of every service that it may read, its own and others', and notes the style in its own where it is
missing; of two that start at once the one whose row was committed first decides. A service whose role may see no other store finds its own
row alone.
Stores that were filled before styles were noted there are of the time when there was one style.

Neighbours: `bootstrap` hands an engine in; the file is written after the rows, so whoever loses has left nothing behind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from millrace import StoreUnavailable
from parcomolo.configuration import CHOREOGRAPHY, SERVICES

KIND, KEY = "@installation", "checkout"
"""Place of the row; no class of the shop has such a kind."""
NOT_FOR_US = ("absent", "older_version", "unauthorized")


async def style_in_stores(engine: Any) -> dict[str, str]:
    """Return the style by service, as far as stores say one and may be read.

    Args:
        engine: an engine for reading.

    Raises:
        StoreUnavailable: the server cannot be used.
    """
    found: dict[str, str] = {}
    try:
        for service in SERVICES:
            if said := await _said_by(engine.store(service)):
                found[service] = said
    finally:
        await engine.stop()
    return found


async def _said_by(store: Any) -> str | None:
    try:
        async with _opened(store) as opened:
            if rows := await opened.reader.states.load(KIND, [KEY]):
                return rows[KEY].decode()
            return CHOREOGRAPHY if await opened.reader.journal.head() else None
    except StoreUnavailable as error:
        if error.reason not in NOT_FOR_US:
            raise
        return None


async def note_in_stores(engine: Any, services: Iterable[str], style: str) -> str:
    """Note the style in the stores of services that say none, in one order; return it, or what one says that was faster.

    Raises:
        StoreUnavailable: the server cannot be used.
    """
    try:
        for service in services:
            if (said := await _note(engine.store(service), style)) != style:
                return said
        return style
    finally:
        await engine.stop()


async def _note(store: Any, style: str) -> str:
    async with _opened(store) as opened:
        while True:
            try:
                return await _note_once(opened, style)
            except StoreUnavailable as error:
                if error.reason != "conflict":
                    raise


async def _note_once(store: Any, style: str) -> str:
    transaction = await store.begin()
    try:
        rows = await transaction.states.load(KIND, [KEY])
        if not rows:
            await transaction.states.save([(KIND, KEY, style.encode())])
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()
    return rows[KEY].decode() if rows else style


@asynccontextmanager
async def _opened(store: Any) -> AsyncGenerator[Any]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()
