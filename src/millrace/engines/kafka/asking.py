"""librdkafka's client for questions, and how it ends.

It answers in a thread of its own, where Python code runs: futures are set there, so a collection of garbage may happen there too. Where the
last reference to such a client is dropped in that thread, the library ends the process ("rd_kafka_destroy() called from librdkafka owned
thread"), and an error's traceback with a reference in it is enough. So nobody's reference is the last one: an `Asker` is kept until it
has ended its client in a thread that it starts for that.

Neighbours: `client` makes these.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Generator
from typing import Any


class Ended(Exception):
    """The client for questions has ended."""


class Asker:
    """A client for questions that ends when nobody asks any more.

    Args:
        client: an `AdminClient`; nobody else keeps it.
        owner: whose end is its end too.
    """

    def __init__(self, client: Any, owner: object) -> None:
        self.client = client
        self._lock = threading.RLock()  # a collection of garbage may call `retire` in the middle of anything
        self._asking = 0
        self._retired = False
        self._end_of_owner = weakref.finalize(owner, self.retire)
        self._end_of_owner.atexit = False

    @contextlib.contextmanager
    def asking(self) -> Generator[Any]:
        """Keep the client open meanwhile.

        Raises:
            Ended: it has.
        """
        with self._lock:
            if self._is_over:
                raise Ended
            self._asking += 1
        try:
            yield self.client
        finally:
            with self._lock:
                self._asking -= 1
                end = self._is_over
            if end:
                self._end()

    @property
    def _is_over(self) -> bool:
        return self._retired and not self._asking

    def retire(self) -> None:
        """End the client as soon as nobody asks it; what it has not answered by then it never answers. From any thread, and again."""
        with self._lock:
            before, self._retired = self._retired, True
            end = self._is_over and not before
        if end:
            self._end()

    def _end(self) -> None:
        self._end_of_owner.detach()
        threading.Thread(target=self.client.__exit__, args=(None, None, None), name="kafka asker ends").start()


__all__ = ["Asker", "Ended"]
