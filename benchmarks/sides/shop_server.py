"""Starts Parcomolo as a user does and asks it over HTTP; what the drivers of its cases share."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import fail
from benchmarks.process import Server, free_port, serving

COMMANDS = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[2]


@contextmanager
def place(on: str) -> Iterator[dict[str, str]]:
    """The settings, as environment variables, that put a shop in its folder or on servers of the run's own names."""
    if on == "folder":
        yield {}
        return
    from benchmarks.servers import servers

    with servers() as found:
        names = {"LOG": f"kafka://{found.kafka}", "STORE": found.postgres, "NAMESPACE": found.namespace}
        yield {f"PARCOMOLO_{name}": value for name, value in names.items()}


def parcomolo(
    directory: str, *, services: str | None = None, delay: float = 0, log: str = "serve.log", settings: Mapping[str, str] | None = None
) -> AbstractContextManager[Server]:
    """``parcomolo serve`` on a free port, with its state below ``directory`` or where the settings say."""
    port = free_port()
    command = [str(COMMANDS / "parcomolo"), "serve", "--port", str(port), "--data", f"{directory}/data"]
    if services:
        command += ["--services", services]
    env = {"PARCOMOLO_SHIPPING_DELAY": f"{delay:g}", **(settings or {})}
    return serving(command, port=port, ready="/ready", log=Path(directory, log), env=env)


def get(url: str) -> Any:
    """The decoded answer to a GET."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def post(url: str, body: object) -> Any:
    """The decoded answer to a POST."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def order_ids(url: str, query: str = "") -> list[str]:
    """The ids of all orders the shop lists."""
    found: list[str] = []
    cursor = ""
    while True:
        page = get(f"{url}/api/orders?limit=100{query}{'&cursor=' + cursor if cursor else ''}")
        found += [order["order_id"] for order in page["items"]]
        cursor = page["next"]
        if not cursor:
            return found


def wait_until(holds: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Wait until ``holds()``; fail the run when it does not within ``limit`` seconds."""
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            fail(f"{what}: not within {limit:.0f} s")
        time.sleep(0.1)


def check_ledger(directory: str, settings: Mapping[str, str] | None = None) -> None:
    """Fail the run unless the ledger balances: nothing lost, nothing twice."""
    env = {**os.environ, "PARCOMOLO_DATA": f"{directory}/data", **(settings or {})}
    command = [str(COMMANDS / "millrace"), "--app", "parcomolo", "ledger"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        fail(f"the ledger does not balance: {done.stdout[-1000:]} {done.stderr[-1000:]}")


def load(url: str, *arguments: str) -> dict[str, float]:
    """Run the load generator in a process of its own; answer its figures."""
    command = [sys.executable, "-m", "benchmarks.load", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if done.returncode:
        fail(f"the load generator failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)
