"""An activity that awaits 20 ms for each message, with as many workers as asked for.

The messages are in the log before the activity's service is started, so that only its calls, their commits and what they
say are measured. Verified: each message was called once, those of a key in order, the log has each answer once, and the
ledger balances. Prints one JSON object.

    python -m benchmarks.sides.workers --dir DIR [--on servers] [--workers 10] [--messages 2000] [--keys 100]
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

from benchmarks.measure import check
from benchmarks.sides.w1 import Engines, engines
from millrace import Application, Command, Event, Service
from millrace.ledger import check_ledger

CALL_S = 0.02


class Ask(Command, key="name"):
    """Say something that the outside world is to be told."""

    name: str
    n: int


class Asked(Event, topic="asked", key="name"):
    """It was said."""

    name: str
    n: int


class Told(Event, topic="told", key="name"):
    """The outside world was told."""

    name: str
    n: int


def services(calls: list[tuple[str, int]], workers: int) -> tuple[Service, Service]:
    """Who speaks, and who calls."""
    asking, telling = Service("asking"), Service("telling", says=[Told])

    @asking.handler(says=[Asked])
    def ask(command: Ask) -> Asked:  # pyright: ignore[reportUnusedFunction]  # the service keeps it
        return Asked(name=command.name, n=command.n)

    @telling.handler(workers=workers)
    async def tell(event: Asked) -> Told:  # pyright: ignore[reportUnusedFunction]  # as above
        calls.append((event.name, event.n))
        await asyncio.sleep(CALL_S)
        return Told(name=event.name, n=event.n)

    return asking, telling


async def measure(args: argparse.Namespace, make: Engines) -> dict[str, object]:
    """Fill the log, then call."""
    calls: list[tuple[str, int]] = []
    both = services(calls, args.workers)
    async with Application("bench", both, engine=make(), hosted=["asking"]) as app:
        for n in range(args.messages // args.keys):
            await asyncio.gather(*(app.execute(Ask(name=f"key-{i}", n=n)) for i in range(args.keys)))
        check(await app.caught_up(timeout=60.0), "the log was not filled in time")
    app = Application("bench", both, engine=make())
    begin = time.perf_counter()
    cpu = time.process_time()
    async with app:
        tail = app.tail(["told"], after="start")
        told = 0
        async for batch in tail.batches():
            told += len(batch)
            if told >= args.messages // args.keys * args.keys:
                break
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        lines = await check_ledger([(host.source, host.store) for host in app.hosts.values()], app.parts)
    for i in range(args.keys):
        order = [n for name, n in calls if name == f"key-{i}"]
        check(order == sorted(order) and len(set(order)) == len(order) == args.messages // args.keys, f"key-{i} was called as {order}")
    check(told == len(calls), f"{len(calls)} calls, {told} answers in the log")
    check(all(line.balanced for line in lines), f"the ledger differs: {[line.difference for line in lines if not line.balanced]}")
    return {"rate": told / seconds, "cpu_us": cpu / told * 1e6, "verified": True}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "servers"), default="folder")
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=100)
    args = parser.parse_args(argv)
    with engines(args.on, args.dir) as make:
        print(json.dumps(asyncio.run(measure(args, make))))


if __name__ == "__main__":
    main()
