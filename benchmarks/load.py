"""An HTTP/1.1 load generator with exact latencies: keep-alive connections on raw sockets, in a process of its own.

Two modes. Closed loop (``--rate 0``): each connection sends its next request when the answer to the last one has
arrived. Open loop (``--rate 50``): requests are due at fixed times whatever the server does, and latency counts from
the due time, so a stall is seen by every request it delayed. When the time is up no request is sent any more and all
answers are awaited, so that the number of 201 answers is exact and can be compared with what the server has stored.
Warm-up requests are counted among the answers, not among the latencies. The same generator loads every side. Prints
one JSON object.

    python -m benchmarks.load http://127.0.0.1:8000/api/orders --connections 32 --seconds 10 --warmup 2 [--rate N]
"""

import argparse
import gc
import json
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import fail, percentile

SKUS = ("bland", "cheese", "a-lot-of-cheese")
READ = 65536
PATIENCE = 30.0


@dataclass(slots=True)
class Connection:
    """One keep-alive connection: its socket, what has arrived, and since when it waits."""

    sock: socket.socket
    buffer: bytes = b""
    since: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the run has seen; ``orders`` holds (due time, body of the answer) when it is asked for."""

    latencies: list[float] = field(default_factory=list[float])
    orders: list[tuple[float, bytes]] | None = None
    answers: dict[int, int] = field(default_factory=dict[int, int])
    problems: list[str] = field(default_factory=list[str])


def bodies(seed: int = 7) -> Iterator[bytes]:
    """Orders of one or two lines by 10,000 customers, the same sequence every time."""
    rng = random.Random(seed)
    while True:
        skus = rng.sample(SKUS, rng.randrange(1, 3))
        lines = [{"sku": sku, "quantity": rng.randrange(1, 3)} for sku in skus]
        order = {"customer_id": f"c-{rng.randrange(10_000):05d}", "lines": lines, "payment": {"token": "tok_ok"}}
        yield json.dumps(order, separators=(",", ":")).encode()


def requests(url: str) -> Iterator[bytes]:
    """Complete POST requests, built beforehand so that building costs nothing while measuring."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    return cycle([b"%s%d\r\n\r\n%s" % (head.encode(), len(body), body) for body, _ in zip(bodies(), range(20_000), strict=False)])


def answer_end(buffer: bytes) -> int:
    """Where the first complete answer in ``buffer`` ends; 0 while it is incomplete."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return 0
    lower = buffer[:head].lower()
    at = lower.find(b"content-length:")
    if at < 0:
        fail(f"an answer without content-length: {buffer[:200]!r}")
    stop = lower.find(b"\r\n", at)
    end = head + 4 + int(lower[at + 15 : stop if stop > 0 else head])
    return end if len(buffer) >= end else 0


class Generator:
    """Sends and receives on all connections until the time is up and every answer is in."""

    def __init__(self, url: str, *, connections: int, rate: float) -> None:
        """Connect; nothing is sent yet."""
        parts = urlsplit(url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.rate, self.requests, self.tally = rate, requests(url), Tally()
        self.selector = selectors.DefaultSelector()
        self.idle: deque[Connection] = deque()
        self.busy = 0
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        connection = Connection(socket.create_connection(self.address, timeout=PATIENCE))
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.setblocking(False)
        self.selector.register(connection.sock, selectors.EVENT_READ, connection)
        self.idle.append(connection)

    def _reconnect(self, connection: Connection) -> None:
        """A server may close a connection that idles; one that owes an answer it may not."""
        if connection not in self.idle:
            fail("the server closed a connection that waited for an answer")
        self.idle.remove(connection)
        self.selector.unregister(connection.sock)
        connection.sock.close()
        self._connect()

    def run(self, *, warmup: float, seconds: float) -> float:
        """Load for ``warmup + seconds``; answer for how long the counted part really went."""
        begin = time.perf_counter()
        self.counted = begin + warmup
        self.end = self.counted + seconds
        sent = 0
        while True:
            now = time.perf_counter()
            if now < self.end:
                sent = self._send_due(begin, now, sent)
            elif not self.busy:
                break
            elif now > self.end + PATIENCE:
                fail(f"{self.busy} requests had no answer {PATIENCE:.0f} s after the last was sent")
            self._receive(self._pause(begin, sent, now))
        return max(self.last - self.counted, 1e-9)

    def _pause(self, begin: float, sent: int, now: float) -> float:
        if not self.rate or not self.idle or now >= self.end:
            return 0.05
        return min(max(begin + sent / self.rate - now, 0.0), 0.05)

    def _send_due(self, begin: float, now: float, sent: int) -> int:
        while self.idle:
            due = begin + sent / self.rate if self.rate else now
            if due > now:
                break
            self._send(self.idle.popleft(), due)
            sent += 1
        return sent

    def _send(self, connection: Connection, due: float) -> None:
        connection.since = due
        self.busy += 1
        connection.sock.sendall(next(self.requests))

    def _receive(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            connection: Connection = key.data
            data = connection.sock.recv(READ)
            if not data:
                self._reconnect(connection)
                continue
            connection.buffer += data
            end = answer_end(connection.buffer)
            if end:
                self._answered(connection, end)

    def _answered(self, connection: Connection, end: int) -> None:
        self.last = time.perf_counter()
        status = int(connection.buffer[9:12])
        self.tally.answers[status] = self.tally.answers.get(status, 0) + 1
        if status != 201 and len(self.tally.problems) < 3:
            self.tally.problems.append(connection.buffer[:400].decode(errors="replace"))
        if self.last >= self.counted:
            self.tally.latencies.append(self.last - connection.since)
        if self.tally.orders is not None:
            self.tally.orders.append((connection.since, connection.buffer[:end]))
        connection.buffer = connection.buffer[end:]
        self.busy -= 1
        if self.rate or self.last >= self.end:
            self.idle.append(connection)
        else:
            self._send(connection, self.last)


def load(url: str, *, connections: int, rate: float, warmup: float, seconds: float, record: Path | None = None) -> dict[str, object]:
    """Load ``url`` and answer rate, latencies in ms and the number of answers by status.

    ``record`` is a file that gets a line ``order id, due time`` per order, on the clock of ``time.perf_counter``.
    """
    generator = Generator(url, connections=connections, rate=rate)
    tally = generator.tally
    tally.orders = [] if record else None
    gc.disable()
    took = generator.run(warmup=warmup, seconds=seconds)
    if set(tally.answers) != {201}:
        fail(f"answers by status {tally.answers}; {tally.problems}")
    if record:
        placed = [(due, json.loads(answer.partition(b"\r\n\r\n")[2])) for due, answer in tally.orders or ()]
        record.write_text("".join(f"{order['order_id']} {due}\n" for due, order in placed))
    ordered = sorted(tally.latencies)
    return {
        "rate": len(ordered) / took,
        "p50_ms": percentile(ordered, 0.5) * 1e3,
        "p99_ms": percentile(ordered, 0.99) * 1e3,
        "max_ms": ordered[-1] * 1e3,
        "counted": len(ordered),
        "answers": tally.answers[201],
    }


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0, help="requests/s in all; 0: as fast as answers come")
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--record", type=Path, help="file that gets 'order id, due time' of every order")
    print(json.dumps(load(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
