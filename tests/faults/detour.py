"""A way to a server on which bytes can be held up for a while: they are late, not lost.

Neighbours: `servers` has Kafka advertise one for a listener of its own; the fault of two relays lets one of them connect there.
"""

from __future__ import annotations

import asyncio
import threading


class Detour:
    """Passes bytes between whoever connects here and a port of this machine, in a thread of its own.

    Args:
        target: the port behind it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._free = asyncio.Event()
        self._free.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="detour", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Let nothing through in either direction until `release`."""
        self._loop.call_soon_threadsafe(self._free.clear)

    def release(self) -> None:
        """Let everything through that was held up, in its order."""
        self._loop.call_soon_threadsafe(self._free.set)

    def close(self) -> None:
        """Cut everything and end."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, questions = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for source, sink, back in ((reader, questions, writer), (answers, writer, questions)):
            task = asyncio.ensure_future(self._pass(source, sink, back))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self._free.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()
            back.close()
