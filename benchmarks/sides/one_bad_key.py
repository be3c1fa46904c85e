"""What one key costs the others: a handler that always fails for one key of a thousand, and the same handler that does not.

The work is that of W1, with a thousand keys. The clock runs from the start of the application until the outputs of the others are in the
log; only those count. Verified: every message of theirs is handled, the state equal to an independent count, and every message of
the bad key is held. Prints one JSON object.

    python -m benchmarks.sides.one_bad_key --dir DIR [--failing] [--n 100000] [--keys 1000] [--batch 1000]
"""

import argparse
import asyncio
import json
import time

from benchmarks.measure import check
from benchmarks.sides.w1 import INPUT, CustomerTotal, OrderPlaced, TotalChanged, feed, fill
from millrace import Application, Service
from millrace.engines.sqlite import SqliteEngine


def failing_totals(bad: str | None) -> Service:
    """The service of W1, which cannot do with one customer."""
    service = Service("totals")

    @service.handler(known=CustomerTotal.by("customer_id"))
    def add(event: OrderPlaced, known: CustomerTotal | None) -> tuple[CustomerTotal, TotalChanged]:
        """Add the order to its customer's total."""
        if event.customer_id == bad:
            raise ConnectionError("not for this one")
        count = (known.count if known else 0) + 1
        total = (known.total if known else 0) + event.quantity * event.unit_price
        return (
            CustomerTotal(customer_id=event.customer_id, count=count, total=total),
            TotalChanged(customer_id=event.customer_id, order_id=event.order_id, count=count, total=total),
        )

    return service


async def run(directory: str, *, failing: bool, n: int, keys: int, batch: int) -> dict[str, object]:
    """Fill, process, verify."""
    expect = await fill(SqliteEngine(directory), n, keys)
    bad = min(expect) if failing else None
    good = n - (expect[bad][0] if bad is not None else 0)
    app = Application("twin", [feed, failing_totals(bad)], engine=SqliteEngine(directory), hosted=["totals"], batch_max=batch)
    begin, cpu = time.perf_counter(), time.process_time()
    await app.start()
    try:
        while (published := app.hosts["totals"].relay.published) < good:
            await asyncio.sleep(0.02)
            check(time.perf_counter() - begin < 300, f"{published} of {good} outputs after 300 s; {app.health()}")
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        rows = await app.hosts["totals"].store.reader.positions.load("handlers")
        held = sum(row.waiting + row.dead for row in rows if row.topic == INPUT)
        check(
            sum(row.handled for row in rows) == good and held == n - good, f"{good} handled and {n - good} held were expected, found {rows}"
        )
        state = {row.customer_id: (row.count, row.total) for row in (await app.states(CustomerTotal).list(limit=1000)).items}
        check(state == {key: value for key, value in sorted(expect.items()) if key != bad and key in state}, "the state differs")
    finally:
        await app.stop()
    return {"rate": good / seconds, "cpu_us": cpu / good * 1e6, "held": held, "messages": n, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--failing", action="store_true")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(run(args.dir, failing=args.failing, n=args.n, keys=args.keys, batch=args.batch))))


if __name__ == "__main__":
    main()
