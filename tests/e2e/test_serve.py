"""`parcomolo serve` as an operator meets it: started, stopped, killed, started wrongly, reset, and run in parts."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import apsw
import pytest

from tests.command_line import Ran
from tests.e2e.running_shop import (
    BIN,
    PAID,
    PLACED,
    POSITION,
    RESERVED,
    RunningShop,
    environment,
    facts_of,
    is_balanced,
    millrace,
    run,
    statuses,
)
from tests.shop_places import files_of

READY_S = 20.0
"""The promise is 2 s, on a machine that does nothing else; here others run beside."""
HAPPY = [PLACED, RESERVED, PAID, "order-confirmed", "shipping-scheduled", "item-shipped", "stock-committed", "order-completed"]


def refused(ran: Ran, *words: str) -> str:
    """Return the one line that a wrong setting gets, having checked that it is one and what it names."""
    assert (ran.status, ran.out) == (2, ""), ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("parcomolo: ")
    for word in words:
        assert word in ran.err
    return ran.err


def serve_wrongly(data: Path, **settings: str) -> Ran:
    """Start a server that cannot work."""
    return run("parcomolo", "serve", data=data, **settings)


def test_it_is_ready_soon(data: Path, record_property: pytest.RecordProperty) -> None:
    """From the command to the first 200 of /ready on an empty folder, and again on one that has state."""
    for what in ("empty", "again"):
        with RunningShop(data) as shop:
            print(f"ready ({what}) after {shop.ready_s:.2f} s")
            record_property(f"ready_s_{what}", round(shop.ready_s, 2))
            assert shop.ready_s < READY_S
            shop.terminate()


HEADED = ("/health", "/", "/orders", "/api/orders", "/docs", "/static/css/frame.css", "/nothing", "/api/orders/nothing")


def test_head_is_get_without_the_body(data: Path) -> None:
    """Status and headers of GET over one connection that stays, also of a stream; and nothing is logged."""
    with RunningShop(data) as shop:
        connection = http.client.HTTPConnection(shop.url.removeprefix("http://"), timeout=20)
        connection.connect()
        kept = connection.sock
        for path in (*HEADED, "/events"):
            connection.request("HEAD", path)
            head = connection.getresponse()
            assert head.read() == b"", path
            assert connection.sock is kept, path
            if path == "/events":
                assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
                continue
            got = shop.http.get(path)
            assert (head.status, head.headers["content-type"]) == (got.status_code, got.headers["content-type"]), path
            if path != "/health":
                assert head.headers["content-length"] == got.headers["content-length"], path
        connection.close()
        shop.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_order_flows(data: Path, number: signal.Signals) -> None:
    """An order placed over HTTP goes through all services to `completed`; a signal then ends the server with status 0."""
    with RunningShop(data, shipping_delay="0.2") as shop:
        order = shop.completed(("cheese", 2))
        stock = shop.shows("/api/stock/cheese", 48, of=lambda row: row["on_hand"])
        assert shop.get("/health")["status"] == "ok"
        assert json.loads((files_of(data) / "installation.json").read_text())["checkout"] == "orchestration"
        assert shop.terminate(number).splitlines()[-1] == "Stopped."

    assert set(facts_of(order)) == set(HAPPY)
    assert (order["payment_status"], order["fulfilment_status"]) == ("paid", "shipped")
    assert (stock["on_hand"], stock["reserved"], stock["available"]) == (48, 0, 48)
    assert is_balanced(data)


@pytest.mark.crash
@pytest.mark.parametrize(
    "fact", [pytest.param(PLACED, marks=pytest.mark.slow), PAID, pytest.param("shipping-scheduled", marks=pytest.mark.slow)]
)
def test_an_order_survives_kill(data: Path, fact: str) -> None:
    """Killed with -9 right after a fact was seen, the shop goes on from there when it is started again."""
    with RunningShop(data, shipping_delay="1") as shop:
        order_id = shop.place(("a-lot-of-cheese", 3))
        before = shop.told(order_id, fact)
        shop.kill()
    with RunningShop(data, shipping_delay="1") as shop:
        assert facts_of(shop.look(order_id))[: len(facts_of(before))] == facts_of(before)
        order = shop.ended(order_id)
        assert sorted(facts_of(order)) == sorted(HAPPY)
        shop.shows(f"/api/payments?order_id={order_id}", ["succeeded"], of=statuses)
        shop.shows("/api/stock/a-lot-of-cheese", 22, of=lambda row: row["on_hand"])
        shop.shows("/api/orders", [order_id], of=lambda page: [each["order_id"] for each in page["items"]])
        shop.terminate()
    assert is_balanced(data)


def test_stopping_keeps_what_is_open(data: Path) -> None:
    """An order that waits for its carrier when the server is stopped goes on at the next start."""
    with RunningShop(data, shipping_delay="1") as shop:
        order_id = shop.place()
        shop.told(order_id, "shipping-scheduled")
        shop.terminate()
    with RunningShop(data, shipping_delay="1") as shop:
        assert shop.ended(order_id)["status"] == "completed"
        shop.terminate()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="how far a process has come is seen in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_while_starting(data: Path, number: signal.Signals) -> None:
    """A server that is asked to stop before it is ready ends well, too, and without a word."""
    for sign in ("/uvloop/", "/installation.json"):
        with started(data) as process:
            wait_until_in_use(process, sign)
            process.send_signal(number)
            _, err = process.communicate(timeout=READY_S)
        assert (process.returncode, err) == (0, ""), sign


def started(data: Path) -> subprocess.Popen[str]:
    """Start a server and wait for nothing."""
    command = [BIN / "parcomolo", "serve"]
    return subprocess.Popen(command, env=environment(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_in_use(process: subprocess.Popen[str], sign: str) -> None:
    """Return when a process has come so far that it has mapped or opened a file."""
    place = Path(f"/proc/{process.pid}")
    while sign not in (place / "maps").read_text() and not any(sign in target_of(each) for each in (place / "fd").iterdir()):
        assert process.poll() is None


def target_of(link: Path) -> str:
    """Return where a link leads, or nothing where it has gone since the folder was listed."""
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


def test_nobody_reads_what_it_prints(data: Path) -> None:
    """Who has read the address may close the pipe; the server still ends well."""
    with started(data) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        process.terminate()
        assert process.stderr.read() == ""
    assert process.returncode == 0


WRONG = [
    ({"services": "orders,kitchen"}, ("--services", "PARCOMOLO_SERVICES", "'orders,kitchen'", "inventory")),
    ({"log": "amqp://localhost"}, ("--log", "'amqp://localhost'", "sqlite:")),
    ({"store": "mysql://localhost/shop"}, ("--store", "'mysql://localhost/shop'", "sqlite:")),
    ({"checkout": "improvisation"}, ("--checkout", "'improvisation'", "orchestration, choreography")),
    ({"checkout": "choreography", "services": "checkout,orders"}, ("--services", "checkout", "choreography")),
    ({"namespace": "Other!"}, ("--namespace", "'Other!'", "none")),
    ({"port": "http"}, ("--port", "'http'", "65535")),
    ({"port": "65536"}, ("--port", "'65536'", "65535")),
    ({"host": "192.0.2.1"}, ("--host", "192.0.2.1")),
    ({"host": "no.such.host.invalid"}, ("--host", "no.such.host.invalid")),
    ({"shipping_delay": "soon"}, ("--shipping-delay", "'soon'", "seconds")),
    ({"late_delivery": "-1"}, ("--late-delivery", "'-1'", "seconds")),
]


@pytest.mark.parametrize(
    "settings, words", WRONG, ids=lambda value: ",".join(map("=".join, value.items())) if isinstance(value, dict) else ""
)
def test_wrong_settings(data: Path, settings: dict[str, str], words: tuple[str, ...]) -> None:
    """Each ends with status 2 and one line that names the setting, the value and what is allowed; no data appear."""
    refused(serve_wrongly(data, **settings), *words)

    assert not list(data.glob("*.db"))


def test_port_in_use(data: Path) -> None:
    """The second server on a port says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(serve_wrongly(data, port=port), "--port", f"'{port}'", "in use")


def installed(data: Path, mark: str) -> None:
    """Let a folder look as if the shop had run there."""
    files_of(data).mkdir(parents=True, exist_ok=True)
    (files_of(data) / "installation.json").write_text(mark)


def test_changed_style(data: Path) -> None:
    """The style of the first start stays; the server and the toolkit's command line both refuse another."""
    for stored, wanted in (
        ("improvisation", {}),
        ("improvisation", {"checkout": "orchestration"}),
        ("choreography", {"checkout": "orchestration"}),
    ):
        installed(data, f'{{"checkout": "{stored}"}}')
        refused(serve_wrongly(data, **wanted), "--checkout", stored, "stored")
        looked = run("millrace", "--app", "parcomolo", "topics", data=data, **wanted)
        assert (looked.status, looked.err.count("\n")) == (2, 1), looked


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkout": 1}', "\x00\x01"])
def test_unreadable_installation(data: Path, content: str) -> None:
    """A folder whose mark cannot be read is refused by name."""
    installed(data, content)

    refused(serve_wrongly(data), str(data))


def test_folder_below_a_file(data: Path) -> None:
    """A folder that cannot be made is refused by name."""
    data.write_text("a file")

    refused(serve_wrongly(data / "shop"), "--data", str(data / "shop"))
    assert refused(serve_wrongly(data), "--data", str(data))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_not_writable(data: Path) -> None:
    """A folder that may not be written is refused by name."""
    data.mkdir(mode=0o500)

    refused(serve_wrongly(data), "--data", str(data))


def foreign_database(file: Path) -> None:
    """Write a database of another program."""
    connection = apsw.Connection(str(file))
    connection.execute("create table notes (text)")
    connection.close()


def newer_database(file: Path) -> None:
    """Let a database of ours come from a later release."""
    connection = apsw.Connection(str(file))
    connection.execute("pragma user_version=99")
    connection.close()


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize("name", ["log.db", "orders.db"])
def test_foreign_file(data: Path, name: str) -> None:
    """Another program's database under one of our names is refused by name and left as it is."""
    data.mkdir()
    foreign_database(data / name)
    before = (data / name).read_bytes()

    refused(serve_wrongly(data), name, "not ours")
    assert (data / name).read_bytes() == before


@pytest.mark.usefixtures("in_files")
def test_no_database_at_all(data: Path) -> None:
    """A file that is no database is refused by name and left as it is."""
    data.mkdir()
    (data / "log.db").write_bytes(b"my notes" * 1000)

    refused(serve_wrongly(data), "log.db")
    assert (data / "log.db").read_bytes() == b"my notes" * 1000


@pytest.mark.usefixtures("in_files")
def test_newer_file_then_reset(data: Path) -> None:
    """A file of a later release is refused by name; `reset --yes` deletes the installation, and the next start is the first."""
    with RunningShop(data, shipping_delay="0") as shop:
        shop.completed(("cheese", 5))
        shop.terminate()
    newer_database(data / "payments.db")
    refused(serve_wrongly(data), "payments.db", "newer version")

    assert run("parcomolo", "reset", "--yes", data=data).status == 0
    assert not data.exists()
    with RunningShop(data) as shop:
        assert shop.get("/api/orders") == {"items": [], "next": None}
        assert shop.get("/api/stock/cheese")["on_hand"] == 50


@pytest.mark.usefixtures("in_files")
def test_reset_refuses_a_strange_folder(data: Path) -> None:
    """Where the shop has never run nothing is deleted."""
    data.mkdir()
    (data / "thesis.txt").write_text("mine")
    refused(run("parcomolo", "reset", "--yes", data=data), "--data", str(data))
    assert (data / "thesis.txt").exists()


def test_reset_is_careful(data: Path) -> None:
    """Without a yes nothing is deleted, nor below a running server; what is not ours stays, and a second one finds nothing."""
    with RunningShop(data) as shop:
        (files_of(data) / "notes.txt").write_text("mine")
        below = run("parcomolo", "reset", "--yes", data=data)
        assert (below.status, below.err.count("\n")) == (1, 1), below
        assert shop.get("/health")["status"] == "ok"
        shop.terminate()

    for answers in ("n\n", "", "\n"):
        assert run("parcomolo", "reset", data=data, answers=answers).status == 1
    assert millrace(data, "topics")
    assert run("parcomolo", "reset", data=data, answers="y\n").status == 0
    assert [path.name for path in files_of(data).iterdir()] == ["notes.txt"]
    (files_of(data) / "notes.txt").unlink()
    again = run("parcomolo", "reset", "--yes", data=data)
    assert (again.status, again.out) == (0, f"There is no data in {files_of(data)}.\n")


def test_simulated_customers(data: Path) -> None:
    """Thirty customers in three seconds: every order reaches an end, the reports count all, nothing is lost."""
    with RunningShop(data, shipping_delay="0.2") as shop:
        ran = run("parcomolo", "simulate", "--rate", "10", "--seconds", "3", "--url", shop.url, data=data)
        print(ran.out)
        assert (ran.status, ran.err) == (0, ""), ran
        assert "30 bought" in ran.out
        shop.until(lambda: shop.get("/api/reports/orders")["total"] == 30, seconds=10)
        assert shop.get("/health")["status"] == "ok"
        stock = shop.shows("/api/stock", {0}, of=lambda rows: {row["reserved"] for row in rows})
        shop.terminate()

    assert all(row["available"] == row["on_hand"] - row["reserved"] >= 0 for row in stock)
    assert is_balanced(data)
    assert millrace(data, "dead-letters", "list", "--state", "all") == []


@pytest.mark.crash
def test_simulated_customers_live_through_a_restart(data: Path) -> None:
    """The shop is killed while customers wait and comes back on its port: every order is followed to its end."""
    with ExitStack() as stack:
        shop = stack.enter_context(RunningShop(data, shipping_delay="1"))
        customers = stack.enter_context(
            subprocess.Popen(
                [BIN / "parcomolo", "simulate", "--rate", "10", "--seconds", "4", "--url", shop.url],
                env=environment(data),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(customers.kill)
        shop.until(lambda: len(shop.get("/api/orders")["items"]) >= 10)
        shop.kill()
        stack.enter_context(RunningShop(data, shipping_delay="1", port=shop.url.rpartition(":")[2]))
        out, err = customers.communicate(timeout=180)

    assert (customers.returncode, err) == (0, ""), out
    assert "asked again" in out
    assert "40 bought" in out
    assert out.splitlines()[-1] == "No end   0"


def test_nobody_to_simulate_for(data: Path) -> None:
    """Without a shop the customers say so, with status 1."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    ran = run("parcomolo", "simulate", "--rate", "1", "--seconds", "1", "--url", url, data=data)

    assert ran.status == 1
    assert url in ran.out + ran.err
    assert "Traceback" not in ran.err


PARTS = ("orders,catalogue", "inventory", "payments", "shipping", "checkout,rewards,operations,reports")
ROUTES = {
    "/": 0,
    "/orders": 0,
    "/api/orders": 0,
    "/api/products": 0,
    "/api/stock": 1,
    "/api/payments": 2,
    "/api/shipments": 3,
    "/api/rewards/ada": 4,
    "/api/operations/alerts": 4,
    "/api/reports/orders": 4,
    "/api/sagas": 4,
}
"""Paths, and which part serves each."""


@pytest.fixture
def parts(data: Path) -> Iterator[list[RunningShop]]:
    """The shop as five processes on one folder."""
    with ExitStack() as stack:
        yield [stack.enter_context(RunningShop(data, services=names, shipping_delay="0.1")) for names in PARTS]


def check_routes(parts: list[RunningShop]) -> None:
    """Every process serves the routes of its services, its health and its description, and no others."""
    for number, part in enumerate(parts):
        found = {path: part.http.get(path).status_code for path in ROUTES}
        assert found == {path: 200 if owner == number else 404 for path, owner in ROUTES.items()}, PARTS[number]
        described = set(part.get("/openapi.json")["paths"])
        assert {"/health", "/ready"} <= described
        assert described & set(ROUTES) == {
            path for path, owner in ROUTES.items() if owner == number and "/api" in path and "ada" not in path
        }
        names = {entry["name"].split(" ")[0].split(".")[0] for entry in part.get("/health")["entries"]}
        assert names == set(PARTS[number].split(","))


def test_parts_work_as_one(data: Path, parts: list[RunningShop]) -> None:
    """Five processes share one folder: each serves its routes, an order crosses all of them, a position holds in all of them."""
    orders, inventory, payments, _, followers = parts
    check_routes(parts)
    order = orders.completed(("cheese", 4))
    answer = orders.http.post(f"/api/orders/{order['order_id']}/deliver")

    assert set(facts_of(order)) == set(HAPPY)
    position = {POSITION: answer.headers[POSITION]}
    assert followers.get("/api/rewards/ada", headers=position)["purchases"] == 1
    assert inventory.get("/api/stock/cheese", headers=position)
    inventory.shows("/api/stock/cheese", 46, of=lambda row: row["on_hand"])
    payments.shows(f"/api/payments?order_id={order['order_id']}", ["succeeded"], of=statuses)
    followers.shows("/api/reports/orders", {"total": 1, "succeeded": 1, "failed": 0})
    assert is_balanced(data)
    for part in parts:
        part.terminate()
    assert is_balanced(data)


@pytest.mark.crash
def test_a_part_may_die(data: Path, parts: list[RunningShop]) -> None:
    """While payments is dead an order waits after its reservation; a new process takes it on at once."""
    orders, _, payments, *_ = parts
    payments.kill()
    order_id = orders.place()
    waiting = orders.told(order_id, RESERVED)
    with RunningShop(data, services="payments"):
        order = orders.ended(order_id)

    assert facts_of(waiting) == [PLACED, RESERVED]
    assert order["status"] == "completed"
