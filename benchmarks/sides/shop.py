"""The whole shop in one process: orders/s from placed to completed, and how long one order takes at 50 orders/s.

All services run, the shipping delay is 0. Completion is taken from the public stream of facts (``/events``), as a
client sees it. First 50 orders/s come at fixed times: latency is from the moment the POST was due until the fact
``order-completed`` arrives; the time between the two facts by their own clock is reported beside it. Then 32
connections place orders as fast as they are answered: the rate is orders by the time from the first POST to the last
completion. Verified: every order answered 201 is completed, exactly once, the order list agrees, the ledger balances.
Prints one JSON object.

    python -m benchmarks.sides.shop --dir DIR [--seconds 10] [--checkout choreography]
"""

import argparse
import http.client
import json
import threading
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import SKUS
from benchmarks.measure import check, percentile
from benchmarks.process import Server
from benchmarks.sides.shop_server import check_ledger, load, order_ids, parcomolo, post, wait_until

PLACED = "parcomolo.orders.order-placed.v1"
COMPLETED = "parcomolo.orders.order-completed.v1"


class Completions:
    """Follows ``/events`` in a thread and notes when each order's completion arrived, and what the facts' times say."""

    def __init__(self, url: str) -> None:
        """Begin to follow."""
        self.at: dict[str, float] = {}
        self.placed: dict[str, datetime] = {}
        self.took: dict[str, float] = {}
        self.twice: list[str] = []
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self.connection.request("GET", "/events?topics=orders", headers={"Accept": "text/event-stream"})
        self.answer = self.connection.getresponse()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while line := self.answer.readline():
            if line.startswith(b"data:") and (PLACED.encode() in line or COMPLETED.encode() in line):
                self._note(time.perf_counter(), json.loads(line[5:]))

    def _note(self, now: float, fact: dict[str, str]) -> None:
        key, said = fact["partitionkey"], datetime.fromisoformat(fact["time"])
        if fact["type"] == PLACED:
            self.placed[key] = said
        elif fact["type"] == COMPLETED:
            self.twice += [key] if key in self.at else []
            self.took[key] = (said - self.placed[key]).total_seconds()
            self.at[key] = now


def paced(server: Server, completions: Completions, record: Path, seconds: float) -> dict[str, float]:
    """50 orders/s; latencies in ms from due to answered and from due to completed."""
    figures = load(f"{server.url}/api/orders", "--rate", "50", "--warmup", "0", "--seconds", str(seconds), "--record", str(record))
    due = {order: float(at) for order, at in (line.split() for line in record.read_text().splitlines())}
    wait_until(lambda: due.keys() <= completions.at.keys(), f"{len(due)} orders completed")
    latencies = sorted(completions.at[order] - at for order, at in due.items())
    by_facts = sorted(completions.took[order] for order in due)
    return {
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "facts_p50_ms": percentile(by_facts, 0.5) * 1e3,
        "facts_p99_ms": percentile(by_facts, 0.99) * 1e3,
        "answer_p99_ms": figures["p99_ms"],
    }


def flooded(server: Server, completions: Completions, record: Path, seconds: float) -> float:
    """Orders completed per second while 32 connections place as many as are answered."""
    load(f"{server.url}/api/orders", "--warmup", "0", "--seconds", str(seconds), "--record", str(record))
    due = {order: float(at) for order, at in (line.split() for line in record.read_text().splitlines())}
    wait_until(lambda: due.keys() <= completions.at.keys(), f"{len(due)} orders completed", limit=300)
    return len(due) / (max(completions.at[order] for order in due) - min(due.values()))


def verify(server: Server, completions: Completions) -> None:
    """Every order is completed, once, and listed so."""
    wait_until(lambda: len(order_ids(server.url, "&status=completed")) >= len(completions.at), "orders listed as completed")
    listed = order_ids(server.url)
    check(not completions.twice, f"{len(completions.twice)} orders completed twice")
    check(len(listed) == len(completions.at) and set(listed) == completions.at.keys(), "orders and completions differ")


def run(directory: str, seconds: float, *, checkout: str) -> dict[str, object]:
    """Start the shop, measure, verify."""
    with parcomolo(directory, settings={"PARCOMOLO_CHECKOUT": checkout}) as server:
        for sku in SKUS:
            post(f"{server.url}/api/stock/{sku}/adjust", {"delta": 1_000_000, "reason": "benchmark"})
        completions = Completions(server.url)
        load(f"{server.url}/api/orders", "--rate", "50", "--warmup", "0", "--seconds", "2")
        figures = paced(server, completions, Path(directory, "paced"), seconds)
        figures["completed_rate"] = flooded(server, completions, Path(directory, "flooded"), seconds)
        verify(server, completions)
    check_ledger(directory)
    return {**figures, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--checkout", default="orchestration", help="the style (default: %(default)s)")
    args = parser.parse_args()
    print(json.dumps(run(args.dir, args.seconds, checkout=args.checkout)))


if __name__ == "__main__":
    main()
