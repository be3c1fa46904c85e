"""Outbox relays side by side: Millrace's, as a process of its own, and Debezium's connector.

Small rows of 1,000 keys are written 100 per transaction as fast as one connection can, while the relay runs; the rate is that of the last
70 % in the topic, which the writer limits where the relay is faster. Then as many are written while the relay stands still, so that the
rate at which it comes after is its own. Then 500 rows/s, one per transaction: from just before its insert until a reader of the topic has
it. Millrace's rows go into a service's journal through its store, Debezium's into a table of Debezium's shape by COPY. With ``--journal``
the journal holds so many rows before, all of them published.

Verified: every row is in the topic once, those of a key in their order. Prints one JSON object.

    python -m benchmarks.sides.relay millrace|debezium [--dir DIR] [--tuned] [--rows 200000] [--seconds 10] [--journal 0]
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import psycopg

from benchmarks.measure import check
from benchmarks.peers.debezium import Debezium, body, number_of
from benchmarks.process import usage
from benchmarks.servers import PARTITIONS, Arrivals, Ends, Servers, create, figures_of, read_all, servers, slope
from millrace import Application, Event, Service, SplitEngine
from millrace.engines.kafka import KafkaEngine, KafkaSettings
from millrace.engines.postgres import PostgresEngine
from millrace.ports import JournalEntry

TOPIC, SERVICE, APPLICATION = "outbox", "shop", "bench"
KEYS, TOGETHER, RATE = 1000, 100, 500
STARTED_S = 90.0
WARM = 0.3
FILL = """insert into {0}.journal (position, topic, partition, key, value)
select n, %s, n %% 3, 'k-' || n %% 1000, convert_to('{{"data":{{"i":' || n || ',"customer_id":"c-00001","sku":"sku-77"}}}}', 'UTF8')
from generate_series(%s::int8, %s::int8) n"""


class Placed(Event, topic=TOPIC, key="key"):
    """What the rows stand for."""

    key: str


class Relaying(Protocol):
    """A relay with the table that it reads."""

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the relay."""
        ...

    def insert(self, rows: Sequence[tuple[str, int]]) -> None:
        """Write (key, number) in one transaction."""
        ...

    def stop(self) -> None:
        """Let go of the table, once the relay has ended."""
        ...


def engine_of(found: Servers) -> SplitEngine:
    """The engine of one process."""
    log = KafkaEngine(KafkaSettings(found.kafka, namespace=f"{found.namespace}."))
    return SplitEngine(log=log, stores=PostgresEngine(found.postgres, namespace=found.namespace))


def application(found: Servers) -> Application:
    """The service whose journal it is."""
    return Application(APPLICATION, [Service(SERVICE, says=[Placed])], engine=engine_of(found))


class Millrace:
    """A journal that is written by hand, and its relay process.

    Args:
        found: the servers.
        journal: how many rows it has before.
    """

    def __init__(self, found: Servers, journal: int) -> None:
        self._found = found
        self._runner = asyncio.Runner()
        self._do = self._runner.run
        self._engine = engine_of(found)
        self._store: Any = self._do(self._open())
        if journal:
            self._fill(journal)
            self._do(self._publish(journal))

    async def _open(self) -> Any:
        store = self._engine.store(SERVICE)
        await store.open()
        await self._engine.start()
        return store

    def _fill(self, rows: int) -> None:
        schema = f'"{self._found.namespace}_{SERVICE}"'
        with psycopg.connect(self._found.postgres, autocommit=True) as connection:
            for first in range(1, rows + 1, 1_000_000):
                connection.execute(FILL.format(schema), (TOPIC, first, min(first + 999_999, rows)))
            connection.execute(f"update {schema}.journal_head set last = %s", (rows,))
            connection.execute(f"vacuum (analyze) {schema}.journal")
            connection.execute("checkpoint")

    async def _publish(self, rows: int) -> None:
        """Say that all of it was published long ago."""
        parts = self._engine.log()
        await parts.log.open()
        log: Any = parts.administration
        await log.begin_epoch(f"/{APPLICATION}/{SERVICE}", 1, position=rows, rows=rows)
        await parts.log.close()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the relay."""
        place = [self._found.kafka, self._found.postgres, self._found.namespace]
        return subprocess.Popen([sys.executable, "-m", "benchmarks.sides.relay", "relay", *place])

    def insert(self, rows: Sequence[tuple[str, int]]) -> None:
        """Write (key, number) in one transaction."""
        self._do(self._insert(rows))

    async def _insert(self, rows: Sequence[tuple[str, int]]) -> None:
        transaction = await self._store.begin()
        first = await transaction.journal.reserve(len(rows))
        entries = [
            JournalEntry(position, TOPIC, int(key[2:]) % PARTITIONS, key, None, None, json.dumps({"data": body(number)}).encode())
            for position, (key, number) in enumerate(rows, first)
        ]
        await transaction.journal.append(entries)
        await transaction.commit()

    def stop(self) -> None:
        """Close the store."""
        self._do(self._close())
        self._runner.close()

    async def _close(self) -> None:
        await self._store.close()
        await self._engine.stop()


def millrace_number(value: bytes) -> int:
    """Which row a record of Millrace's relay is."""
    return json.loads(value)["data"]["i"]


async def relay(found: Servers) -> None:
    """Run the relay until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    async def fail(error: Exception) -> None:
        raise error

    app = application(found)
    await app.start_relays(None, patience=fail)
    await stopped.wait()
    await app.stop()


class Driver:
    """Writes rows and watches the topic."""

    def __init__(self, relaying: Relaying, found: Servers, *, name_of: Callable[[bytes], int]) -> None:
        self._relaying = relaying
        self._found = found
        self._name_of = name_of
        self._ends = Ends(found)
        self.written = 0

    def write(self, count: int) -> None:
        """Write the next rows in one transaction."""
        rows = [(f"k-{number % KEYS}", number) for number in range(self.written, self.written + count)]
        self._relaying.insert(rows)
        self.written += count

    def begin(self) -> int:
        """Write a row now and then until one arrives, and wait for what was written; answer how many rows were lost before."""
        end = time.perf_counter() + STARTED_S
        while not self._ends.total(TOPIC):
            check(time.perf_counter() < end, f"the relay published nothing within {STARTED_S:.0f} s")
            self.write(1)
            time.sleep(0.5)
        time.sleep(3)
        return self.written - self._ends.total(TOPIC)

    def flood(self, rows: int, *, lost: int, watch: Callable[[], float]) -> dict[str, float]:
        """Write as fast as possible in a thread of its own; answer how fast the relay was."""
        times, before = rows // TOGETHER, self.written - lost
        writing = Writing(lambda: self.write(TOGETHER), times=times)
        rate, cpu = slope(self._ends, TOPIC, before + times * TOGETHER, share=WARM, watch=watch)
        writing.join()
        return {"rate": rate, "cpu_us": cpu * 1e6, "written_rate": times * TOGETHER / writing.seconds}

    def drain(self, rows: int, *, lost: int, process: "subprocess.Popen[bytes]") -> dict[str, float]:
        """Write while the relay is stopped; answer how fast it comes after."""
        process.send_signal(signal.SIGSTOP)
        before = self.written - lost
        for _ in range(rows // TOGETHER):
            self.write(TOGETHER)
        process.send_signal(signal.SIGCONT)
        written = self.written - lost
        rate, _ = slope(self._ends, TOPIC, written, share=(before + WARM * rows) / written, watch=lambda: 0.0)
        return {"drained_rate": rate}

    def trickle(self, seconds: float) -> dict[str, float]:
        """Write 500 rows/s, each alone; answer when they were seen, after two seconds of warm-up."""
        arrivals = Arrivals(self._found, TOPIC, name_of=self._name_of)
        time.sleep(1)
        sent: dict[int, float] = {}
        begin = time.perf_counter()
        for i in range(int((seconds + 2) * RATE)):
            if (left := begin + i / RATE - time.perf_counter()) > 0:
                time.sleep(left)
            sent[self.written] = time.perf_counter()
            self.write(1)
        arrivals.wait_for(sent)
        arrivals.stop()
        counted = list(sent)[2 * RATE :]
        return figures_of([arrivals.seen[number] - sent[number] for number in counted])

    def verify(self, lost: int) -> None:
        """Every row once, each key's in order."""
        last: dict[int, int] = {}
        count = 0
        for message in read_all(self._found, TOPIC):
            number = self._name_of(message.value())
            check(number > last.get(number % KEYS, -1), f"row {number} of its key after {last.get(number % KEYS)}")
            last[number % KEYS] = number
            count += 1
        check(count == self.written - lost, f"{count} records for {self.written - lost} rows")
        self._ends.close()


class Writing(threading.Thread):
    """Writes rows beside what else happens here; most of the time it waits for the server."""

    def __init__(self, work: Callable[[], None], *, times: int) -> None:
        super().__init__(daemon=True)
        self.seconds = 0.0
        self._work = work
        self._times = times
        self.start()

    def run(self) -> None:
        """Do the work so many times."""
        begin = time.perf_counter()
        for _ in range(self._times):
            self._work()
        self.seconds = time.perf_counter() - begin


def run(args: argparse.Namespace) -> dict[str, object]:
    """Start the relay, write, verify."""
    ours = args.relay == "millrace"
    with servers() as found:
        create(found, TOPIC)
        relaying: Relaying = Millrace(found, args.journal) if ours else Debezium(found, args.dir, topic=TOPIC, tuned=args.tuned)
        driver = Driver(relaying, found, name_of=millrace_number if ours else number_of)
        process = relaying.start()
        try:
            lost = driver.begin()
            figures = driver.flood(args.rows, lost=lost, watch=lambda: usage(process.pid).cpu)
            figures |= driver.drain(args.rows, lost=lost, process=process)
            figures |= driver.trickle(args.seconds)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            relaying.stop()
        driver.verify(lost)
    return {**figures, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    if sys.argv[1:2] == ["relay"]:
        asyncio.run(relay(Servers(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("relay", choices=("millrace", "debezium"))
    parser.add_argument("--dir", required=True)
    parser.add_argument("--tuned", action="store_true", help="Debezium with more than its defaults")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--journal", type=int, default=0, help="rows that were published before")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
