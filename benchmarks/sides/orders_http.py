"""``POST /api/orders`` from 32 connections, against Parcomolo or the FastAPI peer: the same generator, the same bodies.

The peer stores an order and its outbox row, which another program is to publish. So does ``taking``: Parcomolo with its relay switched
off, so its consumers have nothing to do; the relay runs before, so that the prices are known, and afterwards, to show that everything
comes out. ``parcomolo`` publishes and keeps the status view in the same process meanwhile.

Verified: the server has stored exactly as many orders as it has answered 201 (warm-up included), and the ledger balances. Prints one JSON
object.

    python -m benchmarks.sides.orders_http parcomolo|taking|fastapi --dir DIR [--on servers] [--seconds 10]
"""

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.measure import check
from benchmarks.process import Server, free_port, serving, usage
from benchmarks.sides.shop_server import check_ledger, get, load, order_ids, parcomolo, place, wait_until

PEER = "benchmarks.peers.fastapi_outbox:app"


def fastapi(directory: str, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    """The peer under uvicorn with one worker."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--workers", "1"]
    command += ["--no-access-log", "--log-level", "warning", "--port", str(port), PEER]
    log = Path(directory, "serve.log")
    return serving(command, port=port, ready="/ready", log=log, env={"BENCH_DATA": directory, **_database(settings)})


def _database(settings: Mapping[str, str]) -> dict[str, str]:
    if not settings:
        return {}
    return {"BENCH_POSTGRES": settings["PARCOMOLO_STORE"], "BENCH_SCHEMA": settings["PARCOMOLO_NAMESPACE"].replace("-", "_")}


def verify_fastapi(server: Server, answers: int) -> None:
    """As many orders and outbox rows as 201 answers."""
    counts = get(f"{server.url}/counts")
    check(counts["orders"] == counts["outbox"] == answers, f"{counts} for {answers} answers 201")


def verify_parcomolo(server: Server, answers: int) -> None:
    """As many different orders as 201 answers."""
    wait_until(lambda: len(order_ids(server.url)) >= answers, f"{answers} orders listed")
    listed = order_ids(server.url)
    check(len(listed) == len(set(listed)) == answers, f"{len(listed)} orders for {answers} answers 201")


def parts_of(directory: str, settings: Mapping[str, str], **more: str) -> AbstractContextManager[Server]:
    """The services that an order needs to be taken and listed."""
    return parcomolo(directory, services="orders,catalogue", settings={**settings, **more})


def run(name: str, directory: str, seconds: float, settings: Mapping[str, str]) -> dict[str, object]:
    """Start the server, load it, verify what it stored."""
    if name == "fastapi":
        start = fastapi(directory, settings)
    elif name == "taking":
        with parts_of(directory, settings):
            pass
        start = parts_of(directory, settings, PARCOMOLO_RELAY="off")
    else:
        start = parts_of(directory, settings)
    with start as server:
        before = usage(server.pid)
        figures = load(f"{server.url}/api/orders", "--connections", "32", "--seconds", str(seconds))
        after = usage(server.pid)
        answers = int(figures["answers"])
        if name != "taking":
            (verify_fastapi if name == "fastapi" else verify_parcomolo)(server, answers)
    if name == "taking":
        with parts_of(directory, settings) as server:
            verify_parcomolo(server, answers)
    if name != "fastapi":
        check_ledger(directory, settings)
    figures["cpu_us"] = (after.cpu - before.cpu) / answers * 1e6
    return {**figures, "rss_mib": after.rss_mib, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=("parcomolo", "taking", "fastapi"))
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "servers"), default="folder")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    with place(args.on) as settings:
        print(json.dumps(run(args.server, args.dir, args.seconds, settings)))


if __name__ == "__main__":
    main()
