"""Parcomolo as a process on a data folder, and what clients need of it: calls over HTTP, and its stream of facts.

A call to a server that has died raises `Gone`; so does waiting for a fact. Neighbours: `path` buys, `invariants` checks, the tests start
servers and kill them.
"""

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from millrace.testing.crash import NotInTime, Process, Trap, Zygote
from parcomolo.configuration import STYLES
from tests.shop_places import settings_of, variables_of

PRELOAD = (
    "parcomolo.cli",
    "parcomolo.bootstrap",
    "parcomolo.web.assembly",
    "parcomolo.web.events",
    "millrace.cli",
    "millrace.engines.kafka",
    "millrace.engines.postgres",
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
PATIENCE_S = 30.0
START_S = 60.0
STILL_LOOKS = 3


class Gone(Exception):
    """The server does not answer any more."""


class Answer(NamedTuple):
    """What a call was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as a value."""
        return json.loads(self.body)


class Server:
    """A `parcomolo serve`.

    Args:
        zygote: starts it.
        data: its folder; may be shared with other servers.
        delay: seconds until a parcel leaves.
        trap: counts its durable operations.
        log: where its output is kept.
        settings: more of them, by name.
    """

    told_of = True
    """Whether its stream of facts is followed."""

    def __init__(
        self,
        zygote: Zygote,
        data: Path,
        *,
        log: Path,
        delay: float = 0.0,
        trap: Trap | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        named = settings_of(data) | {"port": "0", "data": str(data), "shipping-delay": str(delay)} | dict(settings or {})
        arguments = ["serve", *(word for name, value in named.items() for word in (f"--{name}", value))]
        self.process: Process = zygote.start("parcomolo.cli:main", arguments, trap=trap, log=log)
        try:
            self.port = self._port_told()
            self.process.until(lambda: self.call("GET", "/ready").status == 200, timeout=START_S)
        except BaseException:
            self.process.kill()
            raise
        if self.told_of:
            self.facts = Facts(self)

    def _port_told(self) -> int:
        """Return the port that its welcome names; warnings may come before that, where servers are in trouble."""
        number = 0
        while not (line := self.process.line(number, timeout=START_S)).startswith("Parcomolo "):
            number += 1
        return int(line.split()[1].rpartition(":")[2])

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Kill it if it is still there."""
        self.process.kill()

    def call(self, method: str, path: str, body: object = None, *, patience: float = PATIENCE_S, **headers: str) -> Answer:
        """Call and return the answer, whatever its status.

        Raises:
            Gone: there was none.
        """
        content = None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json", **named})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """Return the value at a path, having checked that there is one."""
        answer = self.call("GET", path, **headers)
        assert answer.status == 200, (path, answer)
        return answer.json

    def settle(self, *, timeout: float = PATIENCE_S) -> None:
        """Return when every processor has read everything and nobody has committed for some time."""
        seen: list[object] = []

        def still() -> bool:
            entries = self.call("GET", "/health").json["entries"]
            commits = [line for line in self.call("GET", "/metrics").body.splitlines() if line.startswith(b"millrace_commits")]
            seen.append((commits, sum(entry["lag"] + entry["held"] for entry in entries) == 0))
            return len(seen) >= STILL_LOOKS and seen[-STILL_LOOKS:] == [(commits, True)] * STILL_LOOKS

        self.process.until(still, timeout=timeout)


class Facts:
    """Everything on the public topics, from the first record on, as a client of `/events` sees it."""

    def __init__(self, server: Server) -> None:
        self._changed = threading.Condition()
        self._facts: list[dict[str, Any]] = []
        self._ended = False
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=None)
        threading.Thread(target=self._follow, name="facts", daemon=True).start()

    def _follow(self) -> None:
        try:
            self._connection.request("GET", "/events?after=start", headers={"Accept": "text/event-stream"})
            for line in self._connection.getresponse():
                if line.startswith(b"data: {") and b'"type"' in line:
                    self._add(json.loads(line[6:]))
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self._connection.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _add(self, fact: dict[str, Any]) -> None:
        with self._changed:
            self._facts.append(fact)
            self._changed.notify_all()

    def of(self, key: str, *names: str) -> list[str]:
        """Return the names of the facts about a key so far, those of interest, oldest of each topic first."""
        with self._changed:
            found = [name_of(fact) for fact in self._facts if fact["partitionkey"] == key]
        return [name for name in found if not names or name in names]

    def wait(self, key: str, *names: str) -> None:
        """Return when one of the facts has been published about a key.

        Raises:
            Gone: the server died before.
        """
        self.until(lambda: bool(self.of(key, *names)), f"{' or '.join(names)} of {key}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return when a condition on the facts holds."""
        with self._changed:
            met = self._changed.wait_for(lambda: condition() or self._ended, PATIENCE_S)
            if condition():
                return
        if not met:
            raise NotInTime(f"{what}: not within {PATIENCE_S:g} s; there were {[name_of(fact) for fact in self._facts][-50:]}")
        raise Gone(what)


def name_of(fact: dict[str, Any]) -> str:
    """Return the short name of a fact's type."""
    return fact["type"].split(".")[-2]


@contextmanager
def opened_shop(zygote: Zygote, folder: Path, *, style: str = STYLES[0]) -> Iterator[Path]:
    """Have a data folder of a shop that was opened and closed again: with products and stock, without orders, and with a checkout style."""
    data = folder / "opened"
    with Server(zygote, data, log=folder / "opened.log", settings={"checkout": style}) as server:
        server.settle()
        assert server.process.terminate() == 0, server.process.output
    yield data
    shutil.rmtree(data)


def ledger_of(zygote: Zygote, data: Path, *options: str, log: Path) -> str:
    """Return what `millrace ledger` prints, having checked that it balances."""
    environment = {"PARCOMOLO_DATA": str(data), **variables_of(data)}
    process = zygote.start("millrace.cli:main", ["--app", "parcomolo", "ledger", *options], environment=environment, log=log)
    assert process.wait(60.0) == 0, process.output
    return process.output
