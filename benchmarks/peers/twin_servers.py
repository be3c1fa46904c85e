"""The straight-line twin on Kafka and PostgreSQL: the durable work of W1 written by hand, with nothing general in it.

N small orders lie in a topic of three partitions, the very bytes that Millrace reads. Per batch: consume, decode, load
the state of the batch's keys, fold, and in ONE transaction upsert state, COPY the journal rows, move the read positions
by compare-and-set; then publish the journal's new rows, read back from the table, with an idempotent producer. The
relay's position rides in the next transaction, so a batch costs one fsync. Synchronous commit is on. Verified at the
end: one output per input in the topic, sums equal to an independent count there and in the table.

Prints one JSON object.

    python -m benchmarks.peers.twin_servers [--n 200000] [--keys 10000] [--batch 1000]
"""

import argparse
import json
import struct
import time
from collections.abc import Sequence

import msgspec
import psycopg
from confluent_kafka import Consumer, TopicPartition

from benchmarks.measure import check, peak_rss_mib
from benchmarks.peers.twin_sqlite import (
    Envelope,
    Expected,
    InputEnvelope,
    Total,
    encode,
    envelopes,
)
from benchmarks.servers import PARTITIONS, Ends, Servers, create, producer, publish, read_all, servers

FILL = 5000
WARM = 0.3
"""The share of the outputs after which `warm_rate` begins to count."""
LINGER_S = 0.01
SCHEMA = """
create schema {0}; set search_path = {0};
create table state (customer_id text primary key, count bigint not null, total bigint not null) with (fillfactor = 70);
create table journal (pos bigint primary key, part int not null, key text not null, value bytea not null);
create table position (part int primary key, off bigint not null);
create table head (id int primary key, given bigint not null, sent bigint not null);
insert into head values (1, 0, 0)
"""
LOAD = "select customer_id, count, total from state where customer_id = any(%b)"
SAVE = """insert into state select * from unnest(%b::text[], %b::int8[], %b::int8[])
on conflict (customer_id) do update set count = excluded.count, total = excluded.total"""
ADVANCE = """update position p set off = n.new from unnest(%b::int4[], %b::int8[], %b::int8[]) as n(part, old, new)
where p.part = n.part and p.off = n.old"""
GIVE = "update head set given = given + %b, sent = %b where id = 1 returning given"
UNSENT = "select pos, part, key, value from journal where pos > %b order by pos limit 20000"
Row = tuple[int, int, str, bytes]


def fill(found: Servers, n: int, keys: int) -> Expected:
    """Put the inputs into the topic; answer what the state must be in the end."""
    expect: Expected = {}
    to = producer(found)
    rows: list[tuple[int, str, bytes]] = []
    for number, (key, value) in enumerate(envelopes(n, keys, expect), start=1):
        rows.append((hash(key) % PARTITIONS, key, value))
        if len(rows) == FILL or number == n:
            publish(to, found.topic("orders.in"), rows)
            rows = []
    return expect


def copied(rows: Sequence[Row]) -> bytes:
    """COPY BINARY by hand: pos, part, key, value."""
    four, long = struct.Struct(">i").pack, struct.Struct(">iq").pack
    parts = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
    for pos, part, key, value in rows:
        text = key.encode()
        parts += (b"\x00\x04", long(8, pos), four(4), four(part), four(len(text)), text, four(len(value)), value)
    parts.append(b"\xff\xff")
    return b"".join(parts)


def output(event: InputEnvelope, count: int, total: int, pos: int) -> bytes:
    """An output as Millrace writes it."""
    key = event.partitionkey
    data = msgspec.Raw(encode(Total(key, event.data.order_id, count, total)))
    return encode(
        Envelope(
            f"1-{pos}",
            "/twin/totals",
            "twin.totals.total-changed.v1",
            key,
            event.time,
            key,
            event.correlationid,
            event.id,
            f"{pos:019d}",
            "1",
            data,
        )
    )


class Twin:
    """Consumer, store and relay of one process."""

    def __init__(self, found: Servers) -> None:
        """Connect and start at the beginning."""
        self.found = found
        self.store = psycopg.connect(found.postgres, autocommit=True)
        self.store.execute(SCHEMA.format(found.schema))
        self.cursor = self.store.cursor(binary=True)
        self.cursor.executemany("insert into position values (%s, 0)", [(part,) for part in range(PARTITIONS)])
        self.offsets = dict.fromkeys(range(PARTITIONS), 0)
        self.sent = 0
        self.producer = producer(found)
        self.topic = found.topic("totals")
        settings = {"bootstrap.servers": found.kafka, "group.id": f"{found.namespace}-twin", "enable.auto.commit": False}
        self.consumer = Consumer(settings)
        self.consumer.assign([TopicPartition(found.topic("orders.in"), part, 0) for part in range(PARTITIONS)])
        self.decode = msgspec.json.Decoder(list[InputEnvelope]).decode

    def step(self, batch: int) -> int:
        """One batch; answer how many."""
        messages = [message for message in self.consumer.consume(batch, LINGER_S) if message.error() is None]
        if self.sent:
            check(self.producer.flush(30) == 0, "not everything was acknowledged")
        if not messages:
            return 0
        events = self.decode(b"[" + b",".join([message.value() for message in messages]) + b"]")
        offsets = dict(self.offsets)
        for message in messages:
            offsets[message.partition()] = message.offset() + 1
        with self.store.transaction():
            self._transact(events, [message.partition() for message in messages], offsets)
        self.offsets = offsets
        self._relay()
        return len(messages)

    def _transact(self, events: Sequence[InputEnvelope], parts: Sequence[int], offsets: dict[int, int]) -> None:
        keys = list({event.partitionkey for event in events})
        state = {key: (count, total) for key, count, total in self.cursor.execute(LOAD, (keys,))}
        given = self.cursor.execute(GIVE, (len(events), self.sent)).fetchone()[0]
        rows: list[Row] = []
        for pos, (event, part) in enumerate(zip(events, parts, strict=True), start=given - len(events) + 1):
            count, total = state.get(event.partitionkey, (0, 0))
            count, total = count + 1, total + event.data.quantity * event.data.unit_price
            state[event.partitionkey] = (count, total)
            rows.append((pos, part, event.partitionkey, output(event, count, total, pos)))
        self.cursor.execute(SAVE, (keys, [state[key][0] for key in keys], [state[key][1] for key in keys]))
        moved = [part for part in offsets if offsets[part] != self.offsets[part]]
        self.cursor.execute(ADVANCE, (moved, [self.offsets[part] for part in moved], [offsets[part] for part in moved]))
        check(self.cursor.rowcount == len(moved), "a position was moved by somebody else")
        with self.cursor.copy("copy journal (pos, part, key, value) from stdin (format binary)") as copy:
            copy.write(copied(rows))

    def _relay(self) -> None:
        rows = self.cursor.execute(UNSENT, (self.sent,)).fetchall()
        for part in {part for _, part, _, _ in rows}:
            batch = [{"key": key, "value": value} for _, where, key, value in rows if where == part]
            check(self.producer.produce_batch(self.topic, batch, partition=part) == len(batch), "the producer's queue is full")
        self.sent = rows[-1][0]


def verify(found: Servers, twin: Twin, expect: Expected, n: int) -> None:
    """Compare topic and table with the independent count."""
    decode = msgspec.json.Decoder(Envelope).decode
    total_of = msgspec.json.Decoder(Total).decode
    seen: Expected = {}
    outputs = 0
    for message in read_all(found, "totals"):
        out = total_of(decode(message.value()).data)
        check(out.count == seen.get(out.customer_id, (0, 0))[0] + 1, f"{out.customer_id}: count {out.count} is not the next")
        seen[out.customer_id] = (out.count, out.total)
        outputs += 1
    check(outputs == n and seen == expect, "the outputs differ from the independent count")
    rows = twin.cursor.execute("select customer_id, count, total from state").fetchall()
    check({key: (count, total) for key, count, total in rows} == expect, "the state differs from the independent count")


def run(n: int, keys: int, batch: int) -> dict[str, object]:
    """Do and verify the whole work; answer the figures."""
    with servers() as found:
        create(found, "orders.in", "totals")
        expect = fill(found, n, keys)
        ends = Ends(found)
        begin, cpu = time.perf_counter(), time.process_time()
        twin = Twin(found)
        done, warm = 0, (0, begin)
        while done < n:
            done += twin.step(batch)
            if not warm[0] and done >= WARM * n:
                warm = (done, time.perf_counter())
        check(twin.producer.flush(30) == 0, "not everything was acknowledged")
        check(ends.total("totals") == n, "not every output is in the topic")
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        verify(found, twin, expect, n)
        ends.close()
        twin.consumer.close()
        twin.store.close()
    warm_rate = (n - warm[0]) / (begin + seconds - warm[1])
    return {"rate": n / seconds, "warm_rate": warm_rate, "cpu_us": cpu / n * 1e6, "rss_peak_mib": peak_rss_mib(), "messages": n, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="not used: everything is on the servers")
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1000)
    args = parser.parse_args()
    print(json.dumps(run(args.n, args.keys, args.batch)))


if __name__ == "__main__":
    main()
