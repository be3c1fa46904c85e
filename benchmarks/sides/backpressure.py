"""Back-pressure: a producer ten times faster than the handler of what it says, in one process, for 60 s.

32 callers execute 2,000 commands/s, each of which says one fact. The handler of that fact takes 160 ms, as a call to the
outside world does, and works on 32 keys at a time: at most 200/s, so it falls further and further behind. Everything that
is not handled has to wait on disk: the memory of the last quarter of the time may not be more than 10 % above that of the
second quarter (in the first the databases fill their caches). Verified: facts in the log = commands answered, and every
handled fact was handled in its order. Prints one JSON object.

    python -m benchmarks.sides.backpressure --dir DIR [--seconds 60]
"""

import argparse
import asyncio
import json
import os
import statistics
import time

from benchmarks.measure import check
from benchmarks.process import usage
from millrace import Application, Command, Event, Service
from millrace.engines.sqlite import SqliteEngine

RATE = 2000
HANDLING_S = 0.16
CALLERS = 32


class Measure(Command, key="sensor"):
    """Say a reading."""

    sensor: str
    number: int
    text: str


class Measured(Event, topic="readings", key="sensor"):
    """A reading."""

    sensor: str
    number: int
    text: str


sensors = Service("sensors")
slow = Service("slow")
handled: dict[str, list[int]] = {}


@sensors.handler
def measure(command: Measure) -> Measured:
    """Say what was measured."""
    return Measured(sensor=command.sensor, number=command.number, text=command.text)


@slow.handler
async def take(event: Measured) -> None:
    """Take 160 ms for it, as a call to the outside world does."""
    await asyncio.sleep(HANDLING_S)
    handled.setdefault(event.sensor, []).append(event.number)


async def produce(app: Application, caller: int, until: float) -> int:
    """Execute this caller's share of the rate; answer how many commands were answered."""
    begin, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < until:
        due = begin + sent * CALLERS / RATE
        if due > now:
            await asyncio.sleep(due - now)
        await app.execute(Measure(sensor=f"sensor-{caller}", number=sent, text="x" * 200))
        sent += 1
    return sent


async def watch(seconds: float) -> list[float]:
    """Resident memory in MiB, ten times a second."""
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        samples.append(usage(os.getpid()).rss_mib)
        await asyncio.sleep(0.1)
    return samples


async def run(directory: str, seconds: float) -> dict[str, object]:
    """Produce and handle for ``seconds``, then verify what is there."""
    async with Application("plant", [sensors, slow], engine=SqliteEngine(directory)) as app:
        until = time.perf_counter() + seconds
        producers = asyncio.gather(*(produce(app, caller, until) for caller in range(CALLERS)))
        samples = await watch(seconds)
        produced, done = sum(await producers), sum(len(numbers) for numbers in handled.values())
        check(produced > 5 * done, f"{produced} produced and {done} handled: the producer was not much faster")
        await asyncio.sleep(1)
        infos = [info for info in await app.parts.log.topics() if info.name == "readings"]
        logged = sum(end - first for info in infos for first, end in info.ranges)
        check(logged == produced, f"{logged} facts in the log for {produced} commands")
    check(done > 0, "nothing was handled")
    check(all(numbers == list(range(len(numbers))) for numbers in handled.values()), "facts were handled out of order")
    quarter = len(samples) // 4
    early, late = statistics.mean(samples[quarter : 2 * quarter]), statistics.mean(samples[-quarter:])
    return {
        "growth_percent": (late / early - 1) * 100,
        "rss_mib": samples[-1],
        "produced_rate": produced / seconds,
        "handled_rate": done / seconds,
        "verified": True,
    }


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(run(args.dir, args.seconds))))


if __name__ == "__main__":
    main()
