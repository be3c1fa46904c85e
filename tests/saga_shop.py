"""An application of one saga and its receivers in the folder that `SHOP_DATA` names, for tests of the command line."""

from __future__ import annotations

import os
from datetime import timedelta

from millrace import Application, ManualClock
from millrace.engines.sqlite import SqliteEngine
from millrace.testing import advance, settled
from millrace.testing.conformance.saga_sample import Place, Receivers, desk, order_saga, receivers


def application(*, clock: ManualClock | None = None, behaviour: Receivers | None = None) -> Application:
    """The application, not started."""
    services = [desk(order_saga()), *receivers(behaviour or Receivers())]
    return Application("sample", services, engine=SqliteEngine(os.environ["SHOP_DATA"]), clock=clock)


async def run_until_stuck(*ids: str) -> None:
    """Leave some sagas stuck in their refunds, and one running."""
    behaviour, clock = Receivers(), ManualClock()
    behaviour.mute, behaviour.refuse = {"refund"}, {"book"}
    async with application(clock=clock, behaviour=behaviour) as app:
        for id in ids:
            await app.execute(Place(order_id=id))
        for _ in range(6):
            await advance(app, clock, timedelta(minutes=10))
        behaviour.refuse = set()
        await app.execute(Place(order_id="running"))
        await settled(app)


async def run_until_settled() -> None:
    """Run it with receivers that are well."""
    async with application() as app:
        await settled(app)
