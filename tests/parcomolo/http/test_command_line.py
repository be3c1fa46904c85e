"""PLATFORM section 1: `parcomolo serve | simulate | reset`, and what happens when a setting is wrong."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from millrace import ConfigurationError
from parcomolo.bootstrap import _tracing, assemble
from parcomolo.cli import main
from parcomolo.configuration import configuration, shop_url
from parcomolo.simulate import Tally
from tests.parcomolo.http.server import Server, parcomolo, serving
from tests.parcomolo.http.shop import request
from tests.shop_places import files_of


def one_line(done) -> str:
    """Check that a command ended with 2 and one line, and return the line."""
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    return line


def test_no_services_at_all_are_refused(tmp_path):
    """An empty list is a mistake, of a script for instance, and not a wish for all of them."""
    line = one_line(parcomolo("serve", "--services", "", "--data", str(tmp_path / "data"), "--port", "0"))
    assert all(part in line for part in ("--services", "''", "catalogue, orders")), line


@pytest.mark.parametrize(
    "words, told",
    [
        (("serve", "--colour", "red"), "--colour"),
        (("simulate", "--rate", "fast"), "'fast' is no number"),
        (("simulate", "--rate", "1e9"), "1e9 is not above 0 and at most 100000"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        ((), "COMMAND"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(words, told):
    """Like a wrong setting; it names what is wrong as the user wrote it."""
    assert told in one_line(parcomolo(*words))


def test_help_tells_what_holds_without_a_setting():
    """All services, the first style; only settings that are off say `none`."""
    text = " ".join(parcomolo("serve", "--help").stdout.split())
    assert "(default: all; PARCOMOLO_SERVICES)" in text
    assert "else orchestration; PARCOMOLO_CHECKOUT)" in text
    assert "(default: none; PARCOMOLO_NAMESPACE)" in text
    assert "(default: none; PARCOMOLO_KAFKA_CONFIG)" in text
    assert text.count("default: none") == 2


def test_data_that_cannot_be_deleted_are_one_line(tmp_path, monkeypatch, capsys):
    """A folder on a disk that is mounted read-only: status 1, the file and the reason, no traceback."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("installation.json", "orders.db"):
        (data / name).write_text("{}")

    def refuse(path, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["reset", "--yes", "--data", str(data)]) == 1
    told = capsys.readouterr().err
    assert told == f"parcomolo: {data / 'orders.db'}: Read-only file system; it cannot be deleted\n"


def test_orders_without_an_end_are_counted_beyond_those_named():
    """Five are named, and how many more there are."""
    few, many = Tally(open=["a", "b"]), Tally(open=list("abcdefgh"))
    assert few.lines()[-1] == "No end   2 a b"
    assert many.lines()[-1] == "No end   8 a b c d e and 3 more"


@pytest.mark.parametrize(
    "setting, value, allowed",
    [
        ("log", "amqp://localhost", "kafka://host:port"),
        ("log", "kafka://ada:hidden@localhost:9092", "kafka://host:port"),
        ("store", "mysql://ada:hidden@localhost/shop", "postgresql://"),
        ("kafka-config", "no-such-file", "name=value"),
        ("checkout", "improvisation", "orchestration, choreography"),
        ("namespace", "Blue", "a-z"),
        ("services", "orders,kitchen", "catalogue, orders"),
        ("services", " ", "catalogue, orders"),
        ("port", "many", "65535"),
        ("port", "70000", "65535"),
        ("shipping-delay", "soon", "seconds"),
        ("late-delivery", "-1", "seconds"),
        ("tracing", "jaeger", "otlp, or a collector's address"),
        ("log-format", "xml", "text, json"),
        ("host", "no.such.host.invalid", "address"),
    ],
)
def test_a_wrong_setting_ends_with_2_and_one_line(tmp_path, setting, value, allowed):
    """The line names the setting, the value and what is allowed; as an argument and in the environment."""
    folder = str(tmp_path / "data")
    line = one_line(parcomolo("serve", "--data", folder, f"--{setting}={value}"))
    shown = value.replace("ada:hidden", "***")
    assert all(part in line for part in (f"--{setting}", shown, allowed)), line
    variable = f"PARCOMOLO_{setting.upper().replace('-', '_')}"
    line = one_line(parcomolo("serve", "--data", folder, **{variable: value}))
    assert all(part in line for part in (variable, shown, allowed)), line


@pytest.mark.parametrize(
    "setting, address",
    [("log", "kafka://127.0.0.1:1"), ("store", "postgresql://ada:hidden@127.0.0.1:1/shop")],
)
def test_a_server_that_is_not_there_ends_with_2_and_one_line(tmp_path, setting, address):
    """The line names the setting, what was tried and what to do, and no password."""
    pytest.importorskip("confluent_kafka" if setting == "log" else "psycopg")
    line = one_line(parcomolo("serve", "--port", "0", "--data", str(tmp_path / "data"), f"--{setting}={address}"))
    assert all(part in line for part in (f"--{setting}", f"PARCOMOLO_{setting.upper()}", "127.0.0.1", "refused", "start the server")), line
    assert "hidden" not in line


@pytest.mark.parametrize("setting, driver", [("log", "confluent_kafka"), ("store", "psycopg")])
def test_a_driver_that_is_not_installed_is_named(tmp_path, monkeypatch, setting, driver):
    """With the command that installs it."""
    address = {"log": "kafka://one:9092", "store": "postgresql://one/shop"}[setting]
    config = configuration({"data": str(tmp_path), setting: address})
    for name in [name for name in sys.modules if name.startswith((driver, "millrace.engines.kafka", "millrace.engines.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigurationError, match=rf"--{setting}.*{driver}.*pip install 'millrace\[(kafka|postgres)\]'"):
        assemble(config)


def test_tracing_that_is_not_installed_is_named(tmp_path, monkeypatch):
    """With the command that installs it."""
    config = configuration({"data": str(tmp_path), "tracing": "otlp"})
    monkeypatch.delitem(sys.modules, "millrace.telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"--tracing.*opentelemetry.*pip install 'parcomolo\[telemetry\]'"):
        _tracing(assemble(config), config)


def test_settings_show_no_password(tmp_path):
    """Neither as text nor as an engine."""
    pytest.importorskip("psycopg")
    config = configuration({"data": str(tmp_path), "store": "postgresql://ada:hidden@one/shop"})
    assert "hidden" not in f"{config!r} {assemble(config).engine.of_stores!r}"


def test_a_port_in_use_ends_with_2(tmp_path):
    """And nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = one_line(parcomolo("serve", "--port", port, "--data", str(tmp_path / "data")))
    assert "--port" in line
    assert port in line


def test_a_data_folder_that_is_a_file_ends_with_2(tmp_path):
    """The line names it."""
    (tmp_path / "data").write_text("not a folder")
    line = one_line(parcomolo("serve", "--port", "0", "--data", str(tmp_path / "data")))
    assert "--data" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_with_0(tmp_path, number):
    """With an order in flight and a stream open; after the next start the order is there and goes on."""
    with serving(tmp_path / "data") as server:
        order = httpx.post(f"{server.url}/api/orders", json=request(("cheese", 1), token="tok_insufficient_funds")).json()
        with httpx.stream("GET", f"{server.url}/events", timeout=30) as stream:
            assert next(stream.iter_lines()).startswith("retry")
            status, printed = server.stop(number)
        assert (status, printed.splitlines()[-1]) == (0, "Stopped.")
    with serving(tmp_path / "data") as server:
        seen = httpx.get(f"{server.url}/api/orders/{order['order_id']}").json()
        assert seen["number"] == order["number"]


def test_an_order_survives_kill_9(tmp_path):
    """Answered 201, so it is there."""
    with serving(tmp_path / "data") as server:
        orders = [httpx.post(f"{server.url}/api/orders", json=request(("cheese", 1))).json() for _ in range(5)]
        assert server.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    with serving(tmp_path / "data") as server:
        assert all(httpx.get(f"{server.url}/api/orders/{each['order_id']}").status_code == 200 for each in orders)


def test_simulated_customers_reach_their_ends(tmp_path):
    """0 when every order reached an end; it prints what it did."""
    with serving(tmp_path / "data") as server:
        done = parcomolo("simulate", "--rate", "10", "--seconds", "1", "--url", server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "bought" in done.stdout
        assert httpx.get(f"{server.url}/api/reports/orders").json()["total"] >= 1
    assert parcomolo("simulate", "--url", "http://127.0.0.1:9").returncode == 1


def test_simulated_customers_find_the_shop_by_its_settings(tmp_path):
    """Host and port as arguments and as `serve` reads them from the environment; a port that the system chose is asked for."""
    with serving(tmp_path / "data") as server:
        port = server.url.rpartition(":")[2]
        found = ("--rate", "10", "--seconds", "0.1")
        assert parcomolo("simulate", *found, PARCOMOLO_HOST="0.0.0.0", PARCOMOLO_PORT=port).returncode == 0
        assert parcomolo("simulate", *found, "--port", port, PARCOMOLO_PORT="9").returncode == 0
    assert "http://127.0.0.1:9:" in parcomolo("simulate", PARCOMOLO_PORT="9").stdout
    assert all(part in one_line(parcomolo("simulate", PARCOMOLO_PORT="0")) for part in ("PARCOMOLO_PORT", "'0'", "--url"))
    assert "65535" in one_line(parcomolo("simulate", "--port", "many"))


@pytest.mark.parametrize(
    "host, url",
    [
        ("10.0.0.7", "http://10.0.0.7:81"),
        ("::", "http://[::1]:81"),
        ("fe80::1", "http://[fe80::1]:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        (None, "http://127.0.0.1:81"),
    ],
)
def test_a_shop_is_called_where_it_listens(monkeypatch, host, url):
    """Addresses of the sixth version in brackets; who listens everywhere is called on loopback."""
    monkeypatch.delenv("PARCOMOLO_HOST", raising=False)
    assert shop_url({"host": host, "port": "81"}) == url


@pytest.mark.usefixtures("in_files")
def test_reset_deletes_only_the_data_of_a_stopped_shop(tmp_path):
    """Not while it runs, not without being asked, and not a folder of somebody else."""
    folder = tmp_path / "data"
    server = Server(folder)
    (folder / "note.txt").write_text("mine")
    assert parcomolo("reset", "--data", str(folder), "--yes").returncode == 1
    assert server.stop()[0] == 0
    assert parcomolo("reset", "--data", str(folder)).returncode == 1
    assert (folder / "log.db").exists()
    assert parcomolo("reset", "--data", str(folder), "--yes").returncode == 0
    assert [path.name for path in folder.iterdir()] == ["note.txt"]
    assert parcomolo("reset", "--data", str(folder), "--yes").returncode == 2
    assert parcomolo("reset", "--data", str(tmp_path / "nothing"), "--yes").returncode == 0


def test_the_checkout_style_is_stored_at_the_first_start(tmp_path):
    """And what is stored counts, for the server and for who looks; the default is only for the first time."""
    folder = tmp_path / "data"
    assert Server(folder, "--checkout", "choreography").stop()[0] == 0
    assert "choreography" in (files_of(folder) / "installation.json").read_text()
    line = one_line(parcomolo("serve", "--port", "0", "--data", str(folder), "--checkout", "orchestration"))
    assert all(part in line for part in ("--checkout", "orchestration", "choreography", "stored"))
    line = one_line(parcomolo("serve", "--port", "0", "--data", str(folder), "--services", "checkout"))
    assert all(part in line for part in ("--services", "checkout", "choreography"))
    assert Server(folder).stop()[0] == 0
