"""The shop as its users have it: `parcomolo serve` in a process of its own, looked at over HTTP and with the command line.

Nothing here waits for a time: `until` asks again and again, and is told at once when the process has ended.

Neighbours: the tests beside it; `conftest` makes shops.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

import httpx

from tests.command_line import Ran
from tests.shop_places import variables_of

BIN = Path(sys.executable).parent
ENDED = ("completed", "cancelled", "rejected", "expired")
POSITION = "Millrace-Position"
LOOK_S = 0.02
PATIENCE_S = 60.0
PLACED, RESERVED, PAID = "order-placed", "stock-reserved", "payment-succeeded"


def environment(data: Path, **settings: str) -> dict[str, str]:
    """Return the environment of the commands: the settings by their names, and none of whoever runs the tests.

    No delivery is late unless a test wants it, or a busy machine would add to the stories of orders.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PARCOMOLO_")}
    named = {f"PARCOMOLO_{name.upper()}": value for name, value in settings.items()}
    return {**ours, "PARCOMOLO_DATA": str(data), "PARCOMOLO_PORT": "0", "PARCOMOLO_LATE_DELIVERY": "3600", **variables_of(data), **named}


def run(program: str, *arguments: str, data: Path, answers: str = "", **settings: str) -> Ran:
    """Run a command to its end; `answers` is its standard input."""
    done = subprocess.run(
        [BIN / program, *arguments],
        env=environment(data, **settings),
        input=answers,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def millrace(data: Path, *arguments: str) -> Any:
    """Return what the toolkit's command line prints as JSON, having checked that all was well."""
    ran = run("millrace", "--app", "parcomolo", *arguments, "--json", data=data)
    assert ran.status == 0, ran
    return ran.json


class RunningShop:
    """A process that serves a folder, from its start until `terminate`, `kill` or the end of its `with` block.

    Args:
        data: the folder of all state.
        settings: by name, `shipping_delay="0"`.
    """

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self._errors = data.with_name(f"{data.name}.err")
        began = time.monotonic()
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [BIN / "parcomolo", "serve"],
                env=environment(data, **settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.http = httpx.Client(timeout=20.0)
        try:
            self._await_ready()
        except BaseException:
            self.__exit__()
            raise
        self.ready_s = time.monotonic() - began

    def _await_ready(self) -> None:
        assert self.process.stdout is not None
        welcome = self.process.stdout.readline().split()
        assert len(welcome) > 1, self.complaints
        self.url = welcome[1]
        self.http.base_url = self.url
        self.until(lambda: self.http.get("/ready").status_code == 200)

    def __enter__(self) -> Self:
        """Return the shop."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever has happened."""
        if self.process.poll() is None:
            self.process.kill()
        self._end()

    def _end(self) -> str:
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        self.http.close()
        return out

    def terminate(self, number: int = signal.SIGTERM) -> str:
        """Ask it to stop, and return what it printed, having checked that it ended well and complained about nothing."""
        self.process.send_signal(number)
        out = self._end()
        assert (self.process.returncode, self.complaints) == (0, "")
        return out

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self._end()

    @property
    def complaints(self) -> str:
        """Return what it has logged."""
        return self._errors.read_text()

    def until(self, condition: Callable[[], Any], *, seconds: float = PATIENCE_S) -> Any:
        """Return what the condition says as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"not within {seconds:g} s\n{self.complaints}"
            try:
                status = self.process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the shop ended with {status}\n{self.complaints}")
        return found

    def get(self, path: str, **more: Any) -> Any:
        """Return the body of an answer that must be 200."""
        answer = self.http.get(path, **more)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def shows(self, path: str, wanted: Any, *, of: Callable[[Any], Any] = lambda body: body) -> Any:
        """Return the body of an answer as soon as it, or what `of` takes of it, is as wanted.

        What one service shows may be a moment behind what another one has already heard from it.
        """
        last: list[Any] = []

        def looked() -> bool:
            last[:] = [self.get(path)]
            return of(last[0]) == wanted

        try:
            self.until(looked)
        except AssertionError as error:
            raise AssertionError(f"{path} shows {last} and not {wanted!r}\n{error}") from None
        return last[0]

    def place(self, *lines: tuple[str, int], token: str = "tok_ok", **more: Any) -> str:
        """Place an order and return its id."""
        answer = self.http.post("/api/orders", json=order_of(*lines, token=token, **more))
        assert answer.status_code == 201, answer.text
        return answer.json()["order_id"]

    def listed(self, *lines: tuple[str, int], **more: Any) -> str:
        """Place an order and return its id when the list of orders has it."""
        answer = self.http.post("/api/orders", json=order_of(*lines, **more))
        self.get("/api/orders", headers={POSITION: answer.headers[POSITION]})
        return answer.json()["order_id"]

    def look(self, order_id: str) -> dict[str, Any]:
        """Return an order with its story."""
        return self.get(f"/api/orders/{order_id}")

    def told(self, order_id: str, fact: str) -> dict[str, Any]:
        """Return an order as soon as a fact is in its story."""

        def looked() -> dict[str, Any] | None:
            order = self.look(order_id)
            return order if fact in facts_of(order) else None

        return self.until(looked)

    def ended(self, order_id: str) -> dict[str, Any]:
        """Return an order as soon as it has reached an end."""

        def looked() -> dict[str, Any] | None:
            order = self.look(order_id)
            return order if order["status"] in ENDED else None

        return self.until(looked)

    def completed(self, *lines: tuple[str, int], **more: Any) -> dict[str, Any]:
        """Return a new order that went all the way."""
        order = self.ended(self.place(*lines, **more))
        assert order["status"] == "completed", order
        return order


def order_of(*lines: tuple[str, int], token: str = "tok_ok", customer_id: str = "ada", **more: Any) -> dict[str, Any]:
    """Return the body of an order."""
    wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines or (("cheese", 1),)]
    return {"customer_id": customer_id, "lines": wanted, "payment": {"token": token}, **more}


def statuses(payments: list[dict[str, Any]]) -> list[str]:
    """Return how payments stand."""
    return [payment["status"] for payment in payments]


def facts_of(order: dict[str, Any]) -> list[str]:
    """Return the types in the story of an order, in its order."""
    return [entry["type"] for entry in order["timeline"]]


def is_balanced(data: Path) -> bool:
    """Return whether the ledger of a folder balances; prints what differs."""
    ran = run("millrace", "--app", "parcomolo", "ledger", data=data)
    print(ran.out, ran.err)
    return ran.status == 0


def events_of(lines: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, event) of each message of a stream of server-sent events."""
    ids = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return list(zip(ids, data, strict=False))
