"""Prices for orders that come in together: one look at the store for all of them.

Neighbours: the routes ask here; the rows are `Price` as orders keeps them, read anew each time, never remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from millrace import Application
from parcomolo.orders.prices import Price

Found = Mapping[str, Price]


class PriceLookup:
    """Reads prices; those who ask in the same turn of the loop share one read.

    Args:
        app: the running application; orders must be hosted in this process.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._wanted: set[str] = set()
        self._reading: asyncio.Task[Found] | None = None

    async def get_many(self, skus: Iterable[str]) -> Found:
        """Return the products that exist, at least those asked for."""
        self._wanted.update(skus)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> Found:
        wanted, self._wanted, self._reading = self._wanted, set(), None
        return await self._app.states(Price).get_many(wanted)
