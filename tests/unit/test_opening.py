"""When an application says that it is ready: what its services say at their very first start has been heard by the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millrace import Application, Command, Event, IdempotencyKey, Service
from millrace.engines.sqlite import SqliteEngine


class NamePrice(Command, topic="prices.commands", key="sku"):
    """Name a price."""

    sku: str


class PriceNamed(Event, topic="prices", key="sku"):
    """A price was named."""

    sku: str


class Shop:
    """An application whose prices are said at the first start, to a listener who takes as long as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.heard, self.may_go_on = asyncio.Event(), asyncio.Event()
        prices, shop = Service("prices"), Service("shop")
        prices.handler(name_price)
        prices.on_start(open_prices)

        @shop.handler
        async def hear(event: PriceNamed) -> None:
            self.heard.set()
            await self.may_go_on.wait()

        self.app = Application("test", [prices, shop], engine=SqliteEngine(folder))


def name_price(command: NamePrice) -> PriceNamed:
    """Say it."""
    return PriceNamed(sku=command.sku)


async def open_prices(app: Application) -> None:
    """Name a price, once for all starts."""
    key = IdempotencyKey("opening", "cheese")
    await app.execute(NamePrice(sku="cheese"), idempotency=key, answer=lambda _: b"")


async def test_ready_when_the_first_words_were_heard(tmp_path: Path) -> None:
    """The first start is ready when the listener has heard; the next one, which says nothing, at once, whoever is still busy."""
    first = Shop(tmp_path)
    async with first.app, asyncio.timeout(20):
        await first.heard.wait()
        before = first.app.ready()
        first.may_go_on.set()
        changed = first.app.hosts["shop"].changed
        while not first.app.ready():
            await changed.wait(changed.calls, 0.02)
        assert not before

    later = Shop(tmp_path)
    async with later.app, asyncio.timeout(20):
        await later.app.execute(NamePrice(sku="milk"))
        await later.heard.wait()
        ready = later.app.ready()
        later.may_go_on.set()
        assert ready
