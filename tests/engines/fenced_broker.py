"""What a broker says on the wire that its controller has fenced: itself it knows, and nobody who is alive.

A real one says so for moments only, when it was slower than its session or has just started, which cannot be timed; so these are its
answers, byte by byte. As a program it asks the way the engine does, in a process that may be ended by the library.

Neighbours: `test_kafka_fenced` runs it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading

from millrace.engines.kafka import KafkaSettings
from millrace.engines.kafka.client import Client
from millrace.errors import StoreUnavailable

METADATA, VERSIONS = 3, 18
APIS = ((METADATA, 0, 4), (VERSIONS, 0, 0))


class FencedBroker:
    """Answers clients on a port of this machine; as a sound broker of one node until it is fenced."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.fenced = False
        threading.Thread(target=self._accept, name="fenced broker", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as asked:
            while len(size := asked.read(4)) == 4:
                request = asked.read(*struct.unpack(">i", size))
                api, version, number = struct.unpack(">hhi", request[:8])
                body = self._versions(version) if api == VERSIONS else self._metadata()
                connection.sendall(struct.pack(">ii", len(body) + 4, number) + body)

    def _versions(self, version: int) -> bytes:
        unsupported = 35 if version else 0  # the library asks again in the oldest form
        return struct.pack(">hi", unsupported, len(APIS)) + b"".join(struct.pack(">hhh", *api) for api in APIS)

    def _metadata(self) -> bytes:
        """Return the answer of version 4: throttling, brokers, cluster, controller, topics."""
        if self.fenced:
            return struct.pack(">iihii", 0, 0, -1, -1, 0)
        host = b"127.0.0.1"
        node = struct.pack(">ih", 1, len(host)) + host + struct.pack(">ih", self.port, -1)
        return struct.pack(">ii", 0, 1) + node + struct.pack(">hii", -1, 1, 0)


async def ask(broker: FencedBroker) -> str:
    """Ask who the brokers are, before and after; return what is said then."""
    client = Client(KafkaSettings(f"127.0.0.1:{broker.port}"))
    assert list((await client.cluster()).brokers) == [1]
    broker.fenced = True
    try:
        return f"{len((await client.cluster()).brokers)} brokers"
    except StoreUnavailable as error:
        return error.reason


if __name__ == "__main__":
    print(asyncio.run(ask(FencedBroker())))
    sys.stdout.flush()
