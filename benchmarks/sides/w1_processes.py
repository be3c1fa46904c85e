"""W1 on Kafka and PostgreSQL by one process or two of the same application, which share the partitions out.

The topics have four partitions. The processes hold theirs before the inputs are appended; counted is what comes after that, or after the
first 30 % if that is later. CPU is that of the processes. Verified: state and outputs equal an independent count, every process has had a
part. Prints one JSON object.

    python -m benchmarks.sides.w1_processes [--processes 2] [--n 300000] [--keys 10000]
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.measure import check
from benchmarks.process import usage
from benchmarks.servers import Ends, Servers, create, servers, slope
from benchmarks.sides.w1 import INPUT, OUTPUT, WARM, application, engine_on, fill, totals, verify

PARTITIONS = 4
TOGETHER_S = 60.0


async def serve(found: Servers, number: str) -> None:
    """Run the application until SIGTERM; say which partitions it holds whenever that changes."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with application(engine_on(found, instance=f"w1-{number}")) as app:
        (loop,) = app.hosts[totals.name].loops.values()
        said: list[int] = []
        while not stopped.is_set():
            if (held := loop.state().partitions) != said:
                said = held
                print(len(held), flush=True)
            await asyncio.sleep(0.1)


class Process:
    """One of the processes, and how many partitions it said it holds."""

    def __init__(self, found: Servers, number: int) -> None:
        place = [found.kafka, found.postgres, found.namespace, str(number)]
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.sides.w1_processes", "serve", *place], stdout=subprocess.PIPE)
        self.held = 0

    async def follow(self) -> None:
        """Read what it says until it ends."""
        assert self._process.stdout is not None
        while line := await asyncio.to_thread(self._process.stdout.readline):
            self.held = int(line)

    def cpu(self) -> float:
        """CPU seconds so far."""
        return usage(self._process.pid).cpu

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


async def shared_out(processes: Sequence[Process]) -> None:
    """Wait until each holds an equal part."""
    end = time.perf_counter() + TOGETHER_S
    while any(process.held != PARTITIONS // len(processes) for process in processes):
        check(time.perf_counter() < end, f"the partitions were not shared out: {[process.held for process in processes]}")
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)


async def run(found: Servers, *, count: int, n: int, keys: int) -> dict[str, object]:
    """Start the processes, fill, wait, verify."""
    create(found, INPUT, OUTPUT, partitions=PARTITIONS)
    with ExitStack() as stack:
        processes = [Process(found, number) for number in range(count)]
        for process in processes:
            stack.callback(process.stop)
        following = [asyncio.create_task(process.follow()) for process in processes]
        await shared_out(processes)
        ends = Ends(found, partitions=PARTITIONS)
        stack.callback(ends.close)
        expect = await fill(engine_on(found), n, keys, partitions=PARTITIONS)
        share = max(WARM, ends.total(OUTPUT) / n)
        before = [process.cpu() for process in processes]
        rate, cpu = await asyncio.to_thread(slope, ends, OUTPUT, n, share=share, watch=lambda: sum(process.cpu() for process in processes))
        check(all(process.cpu() > begin for process, begin in zip(processes, before, strict=True)), "a process had nothing to do")
    await asyncio.gather(*following)
    async with application(engine_on(found)) as app:
        await verify(app, n, expect, partitions=PARTITIONS)
    return {"rate": rate, "cpu_us": cpu * 1e6, "counted_share": 1 - share, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    if sys.argv[1:2] == ["serve"]:
        *place, number = sys.argv[2:]
        asyncio.run(serve(Servers(*place), number))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="not used: everything is on the servers")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--n", type=int, default=300_000)
    parser.add_argument("--keys", type=int, default=10_000)
    args = parser.parse_args()
    with servers() as found:
        print(json.dumps(asyncio.run(run(found, count=args.processes, n=args.n, keys=args.keys))))


if __name__ == "__main__":
    main()
