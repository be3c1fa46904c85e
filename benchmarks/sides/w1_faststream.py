"""W1 with FastStream and SQLAlchemy on Kafka and PostgreSQL: starts the peer, waits for its outputs, verifies them.

The input is the twin's, byte for byte; the rate is that of the last 70 % of the outputs. Verified: each customer's
counts are 1, 2, 3 ... without gap, last counts and sums equal to an independent count, in the topic and in the table. Prints one
JSON object.

    python -m benchmarks.sides.w1_faststream [--n 3000] [--keys 10000]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import psycopg

from benchmarks.measure import check
from benchmarks.peers.twin_servers import WARM, fill
from benchmarks.peers.twin_sqlite import Expected, Total
from benchmarks.process import usage
from benchmarks.servers import Ends, Servers, create, read_all, servers

LIMIT_S = 300.0


class Output(msgspec.Struct):
    """What the check reads of an output."""

    data: Total


def watch(peer: "subprocess.Popen[bytes]", ends: Ends, n: int) -> tuple[float, float]:
    """Wait until every output is there; answer messages/s of the last 70 % and CPU us a message."""
    begin, warm = time.perf_counter(), None
    while (done := ends.total("totals")) < n:
        check(peer.poll() is None, f"the peer ended with {peer.returncode}")
        check(time.perf_counter() - begin < LIMIT_S, f"{done} of {n} outputs")
        if warm is None and done >= WARM * n:
            warm = (done, time.perf_counter(), usage(peer.pid).cpu)
        time.sleep(0.02)
    check(warm is not None, "there was nothing to measure")
    assert warm is not None
    left = n - warm[0]
    return left / (time.perf_counter() - warm[1]), (usage(peer.pid).cpu - warm[2]) / left * 1e6


def verify(found: Servers, expect: Expected) -> None:
    """Compare topic and table with the independent count."""
    decode = msgspec.json.Decoder(Output).decode
    seen: Expected = {}
    for message in read_all(found, "totals"):
        out = decode(message.value()).data
        check(out.count == seen.get(out.customer_id, (0, 0))[0] + 1, f"{out.customer_id}: count {out.count} is not the next")
        seen[out.customer_id] = (out.count, out.total)
    check(seen == expect, "the outputs differ from the independent count")
    with psycopg.connect(found.postgres) as connection:
        rows = connection.execute(f"select customer_id, count, total from {found.schema}.state").fetchall()
    check({key: (count, total) for key, count, total in rows} == expect, "the state differs from the independent count")


def run(n: int, keys: int) -> dict[str, object]:
    """Fill, let the peer work, verify."""
    with servers() as found:
        create(found, "orders.in", "totals")
        expect = fill(found, n, keys)
        names = {"BENCH_KAFKA": found.kafka, "BENCH_POSTGRES": found.postgres, "BENCH_NAMESPACE": found.namespace}
        peer = subprocess.Popen([sys.executable, "-m", "benchmarks.peers.faststream_outbox"], env={**os.environ, **names})
        ends = Ends(found)
        try:
            rate, cpu = watch(peer, ends, n)
        finally:
            ends.close()
            peer.send_signal(signal.SIGTERM)
            try:
                peer.wait(20)
            except subprocess.TimeoutExpired:
                peer.kill()
                peer.wait()
        verify(found, expect)
    return {"warm_rate": rate, "cpu_us": cpu, "messages": n, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="not used: everything is on the servers")
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--keys", type=int, default=10_000)
    args = parser.parse_args()
    print(json.dumps(run(args.n, args.keys)))


if __name__ == "__main__":
    main()
