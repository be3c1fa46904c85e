"""The straight-line twin of the embedded engine: the durable work of W1 written by hand, with nothing general in it.

A log file and a store file, both WAL with synchronous=FULL. N small orders lie in topic ``orders.in`` (3 partitions,
CloudEvents structured JSON). Per batch: read, decode, load the state of the batch's keys, fold, write state, journal
and position (compare and set) in one transaction; then relay: read the journal's new rows and append them to the log
together with the relay's position. Verified at the end: one output per input, sums equal to an independent count.

Millrace does the same work on the same bytes (``envelopes`` here fills both logs), so its distance to this file is the
price of everything general in it. Prints one JSON object.

    python -m benchmarks.peers.twin_sqlite [--n 200000] [--keys 10000] [--batch 1000] [--dir DIR]
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator

import apsw
import msgspec

from benchmarks.measure import check, peak_rss_mib

PARTITIONS = 3
FILL = 5000
LOG_SCHEMA = """
create table record(topic int, part int, off int, key text, value blob, primary key(topic, part, off)) without rowid;
create table relay(source text primary key, pos int)
"""
STORE_SCHEMA = """
create table state(key text primary key, value blob) without rowid;
create table journal(pos integer primary key autoincrement, topic int, part int, key text, value blob);
create table position(topic int, part int, off int, token int, primary key(topic, part)) without rowid
"""
READ = "select off, value from record where topic=1 and part=? and off>=? order by off limit ?"
LOAD = "select key, value from state where key in (select value from json_each(?))"
SAVE = "insert into state values(?,?) on conflict(key) do update set value=excluded.value"
JOURNAL = "insert into journal(topic,part,key,value) values(?,?,?,?)"
ADVANCE = "update position set off=? where topic=1 and part=? and off=? and token=1"
UNSENT = "select pos, topic, part, key, value from journal where pos>? order by pos limit 5000"
SENT = "insert into relay values('/twin/totals',?) on conflict(source) do update set pos=excluded.pos"

Expected = dict[str, tuple[int, int]]


class Order(msgspec.Struct):
    """One input: an order line of a customer."""

    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: int


class Total(msgspec.Struct):
    """One output: what the customer has ordered so far."""

    customer_id: str
    order_id: str
    count: int
    total: int


class Envelope(msgspec.Struct):
    """A CloudEvents 1.0 record in JSON structured mode, the same attributes as Millrace's."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    partitionkey: str
    correlationid: str
    causationid: str
    sequence: str
    epoch: str
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class State(msgspec.Struct):
    """What is kept per customer."""

    count: int = 0
    total: int = 0


class InputEnvelope(msgspec.Struct):
    """The attributes of an input that the work needs; ``data`` is decoded in the same pass."""

    id: str
    partitionkey: str
    time: str
    correlationid: str
    sequence: str
    epoch: str
    source: str
    data: Order


encode = msgspec.json.Encoder().encode
decode_input = msgspec.json.Decoder(InputEnvelope).decode
decode_state = msgspec.json.Decoder(State).decode


def envelopes(n: int, keys: int, expect: Expected) -> Iterator[tuple[str, bytes]]:
    """Yield (key, envelope bytes) of ``n`` orders, the same every time; count into ``expect`` what must come out."""
    rng = random.Random(7)
    for i in range(n):
        order = Order(
            f"o-{i:08d}",
            f"c-{rng.randrange(keys):05d}",
            f"sku-{rng.randrange(500)}",
            rng.randrange(1, 6),
            rng.randrange(100, 9999),
        )
        key = order.customer_id
        count, total = expect.get(key, (0, 0))
        expect[key] = (count + 1, total + order.quantity * order.unit_price)
        yield key, encode(_input_envelope(i, order))


def _input_envelope(i: int, order: Order) -> Envelope:
    return Envelope(
        id=f"1-{i}",
        source="/twin/in",
        type="twin.orders.order-placed.v1",
        subject=order.customer_id,
        time="2026-01-01T00:00:00.000000Z",
        partitionkey=order.customer_id,
        correlationid=order.order_id,
        causationid="",
        sequence=f"{i + 1:019d}",
        epoch="1",
        data=msgspec.Raw(encode(order)),
    )


def _output_envelope(event: InputEnvelope, state: State) -> bytes:
    key = event.partitionkey
    total = Total(key, event.data.order_id, state.count, state.total)
    return encode(
        Envelope(
            "",
            "/twin/totals",
            "twin.totals.total-changed.v1",
            key,
            event.time,
            key,
            event.correlationid,
            event.id,
            "",
            "1",
            msgspec.Raw(encode(total)),
        )
    )


def open_file(path: str, schema: str) -> apsw.Connection:
    """Open a database that syncs every commit, and make its tables."""
    connection = apsw.Connection(path)
    for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=4000"):
        connection.execute(f"pragma {pragma}")
    connection.execute(schema)
    return connection


def fill(log: apsw.Connection, n: int, keys: int) -> Expected:
    """Put the inputs into the log; answer what the state must be in the end."""
    expect: Expected = {}
    heads = [0] * PARTITIONS
    rows: list[tuple[int, int, int, str, bytes]] = []
    for key, value in envelopes(n, keys, expect):
        part = hash(key) % PARTITIONS
        rows.append((1, part, heads[part], key, value))
        heads[part] += 1
        if len(rows) == FILL:
            _append(log, rows)
            rows = []
    _append(log, rows)
    return expect


def _append(log: apsw.Connection, rows: list[tuple[int, int, int, str, bytes]]) -> None:
    with log:
        log.executemany("insert into record values(?,?,?,?,?)", rows)


def process(log: apsw.Connection, store: apsw.Connection, part: int, limit: int) -> int:
    """One batch of one partition: fold, write state, journal and position in one transaction; answer how many."""
    off = next(store.execute("select off from position where topic=1 and part=?", (part,)))[0]
    rows = list(log.execute(READ, (part, off, limit)))
    if not rows:
        return 0
    events = [decode_input(value) for _, value in rows]
    keys = list({event.partitionkey for event in events})
    store.execute("begin immediate")
    states = {key: decode_state(value) for key, value in store.execute(LOAD, (encode(keys).decode(),))}
    out = [(2, part, event.partitionkey, _fold(states, event)) for event in events]
    store.executemany(SAVE, [(key, encode(states[key])) for key in keys])
    store.executemany(JOURNAL, out)
    store.execute(ADVANCE, (rows[-1][0] + 1, part, off))
    check(store.changes() == 1, "the position was moved by somebody else")
    store.execute("commit")
    return len(rows)


def _fold(states: dict[str, State], event: InputEnvelope) -> bytes:
    order, state = event.data, states.get(event.partitionkey)
    if state is None:
        state = states[event.partitionkey] = State()
    state.count += 1
    state.total += order.quantity * order.unit_price
    return _output_envelope(event, state)


def relay(log: apsw.Connection, store: apsw.Connection, heads: list[int], relayed: int) -> int:
    """Append the journal's new rows to the log, with the relay's position; answer the new position."""
    batch: list[tuple[int, int, int, str, bytes]] = []
    for pos, topic, part, key, value in store.execute(UNSENT, (relayed,)):
        stamped = value.replace(b'"id":""', b'"id":"1-%d"' % pos, 1)
        stamped = stamped.replace(b'"sequence":""', b'"sequence":"%019d"' % pos, 1)
        batch.append((topic, part, heads[part], key, stamped))
        heads[part] += 1
        relayed = pos
    with log:
        log.executemany("insert into record values(?,?,?,?,?)", batch)
        log.execute(SENT, (relayed,))
    return relayed


def run(n: int, keys: int, batch: int, directory: str) -> dict[str, object]:
    """Do and verify the whole work in ``directory``; answer the figures."""
    log = open_file(os.path.join(directory, "log.db"), LOG_SCHEMA)
    store = open_file(os.path.join(directory, "store.db"), STORE_SCHEMA)
    expect = fill(log, n, keys)
    with store:
        store.executemany("insert into position values(1,?,0,1)", [(part,) for part in range(PARTITIONS)])
    heads, done, relayed = [0] * PARTITIONS, 0, 0
    begin, cpu = time.perf_counter(), time.process_time()
    while done < n:
        for part in range(PARTITIONS):
            moved = process(log, store, part, batch)
            if moved:
                done += moved
                relayed = relay(log, store, heads, relayed)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    verify(log, store, expect, n)
    return {
        "rate": n / seconds,
        "cpu_us": cpu / n * 1e6,
        "rss_peak_mib": peak_rss_mib(),
        "batch": batch,
        "messages": n,
        "verified": True,
    }


def verify(log: apsw.Connection, store: apsw.Connection, expect: Expected, n: int) -> None:
    """Fail unless every input has one output and the state equals the independent count."""
    got: Expected = {}
    for key, value in store.execute("select key, value from state"):
        state = decode_state(value)
        got[key] = (state.count, state.total)
    check(got == expect, "the state differs from the independent count")
    outputs = next(log.execute("select count(*) from record where topic=2"))[0]
    check(outputs == n, f"{outputs} outputs for {n} inputs")


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--dir")
    args = parser.parse_args()
    directory = args.dir or tempfile.mkdtemp(prefix="twin-")
    print(json.dumps(run(args.n, args.keys, args.batch, directory)))


if __name__ == "__main__":
    main()
