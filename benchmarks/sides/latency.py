"""From the topic to the topic at 500 messages/s: how long a message takes to be consumed, folded, journalled and visible again.

W1's application runs in a process of its own. This one appends an input every 2 ms, as the relay of their owner does, and notes when a
reader of the output topic has what it led to. Verified: every input has one output, counts and sums equal an independent count. Prints
one JSON object.

    python -m benchmarks.sides.latency [--seconds 10] [--rate 500]
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec

from benchmarks.measure import check
from benchmarks.peers.twin_sqlite import Expected, envelopes
from benchmarks.process import usage
from benchmarks.servers import Arrivals, Servers, figures_of, servers
from benchmarks.sides.w1 import INPUT, OUTPUT, PARTITIONS, engine_on, verify
from benchmarks.sides.w1 import application as w1
from millrace.partitioning import partition_of
from millrace.ports import JournalRow, TopicSpec

KEYS = 1000
WARMUP_S = 3.0


class _Data(msgspec.Struct):
    order_id: str


class _Output(msgspec.Struct):
    data: _Data


_open = msgspec.json.Decoder(_Output).decode


def order_of(value: bytes) -> str:
    """Which input an output belongs to."""
    return _open(value).data.order_id


async def serve(found: Servers) -> None:
    """Run W1's application until SIGTERM; say when it has its partitions."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with w1(engine_on(found)) as app:
        check(await app.caught_up(timeout=30.0), "the application did not get its partitions")
        print("ready", flush=True)
        await stopped.wait()


async def feed(log: Any, *, seconds: float, rate: float, expect: Expected) -> dict[str, float]:
    """Append inputs at their times; answer when each was due."""
    due: dict[str, float] = {}
    count = int(seconds * rate)
    begin, sent = time.perf_counter(), 0
    rows: list[JournalRow] = []
    for position, (key, value) in enumerate(envelopes(count, KEYS, expect), start=1):
        at = begin + position / rate
        due[f"o-{position - 1:08d}"] = at
        rows.append(JournalRow(position, INPUT, partition_of(key, PARTITIONS), key, value))
        if (left := at - time.perf_counter()) > 0 or position == count:
            await asyncio.sleep(max(left, 0))
            sent = await log.append("/twin/in", 1, rows, after=sent)
            rows = []
    check(sent == count, f"{sent} of {count} inputs are in the log")
    return due


async def run(found: Servers, *, seconds: float, rate: float) -> dict[str, object]:
    """Start the application, feed it, verify."""
    engine = engine_on(found)
    log = engine.log().log
    await log.open()
    await log.ensure([TopicSpec(INPUT, PARTITIONS), TopicSpec(OUTPUT, PARTITIONS)])
    place = [found.kafka, found.postgres, found.namespace]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.sides.latency", "serve", *place], stdout=subprocess.PIPE)
    expect: Expected = {}
    try:
        assert process.stdout is not None
        check(await asyncio.to_thread(process.stdout.readline) == b"ready\n", "the application did not start")
        arrivals = Arrivals(found, OUTPUT, name_of=order_of)
        before = usage(process.pid).cpu
        due = await feed(log, seconds=WARMUP_S + seconds, rate=rate, expect=expect)
        await asyncio.to_thread(arrivals.wait_for, due)
        cpu = (usage(process.pid).cpu - before) / len(due)
        arrivals.stop()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        await log.close()
        await engine.stop()
    async with w1(engine_on(found)) as app:
        await verify(app, len(due), expect)
    counted = list(due)[int(WARMUP_S * rate) :]
    figures = figures_of([arrivals.seen[name] - due[name] for name in counted])
    return {**figures, "cpu_us": cpu * 1e6, "rate": rate, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Servers(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="not used: everything is on the servers")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=500.0)
    args = parser.parse_args()
    with servers() as found:
        print(json.dumps(asyncio.run(run(found, seconds=args.seconds, rate=args.rate))))


if __name__ == "__main__":
    main()
