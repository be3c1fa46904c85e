"""A way to the server that can lose a commit, or the answer to one.

Neighbours: `test_faults` connects through it.
"""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes between clients and a server until it is told to lose some.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server
        self._passing: set[asyncio.Task[None]] = set()
        self.lose: str | None = None
        """`question`: the next bytes of a client do not arrive; `answer`: the next of the server. Then the connection is cut."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut what is connected."""
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._parts._replace(netloc=f"{self._parts.username}@127.0.0.1:{port}"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._parts.port is not None
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self._parts.port)
        tasks = {
            asyncio.ensure_future(self._pass(reader, downstream, writer, kind="question")),
            asyncio.ensure_future(self._pass(upstream, writer, downstream, kind="answer")),
        }
        self._passing |= tasks
        await asyncio.wait(tasks)
        self._passing -= tasks

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter, *, kind: str) -> None:
        try:
            while data := await source.read(1 << 16):
                if self.lose == kind:
                    self.lose = None
                    break
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()
            back.close()
