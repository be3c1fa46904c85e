"""Debezium's outbox connector as its users run it: Connect standalone, pgoutput, the event router on a table of Debezium's shape.

With its defaults, or tuned (asks every 5 ms, larger batches and queues, a producer that lingers for 5 ms), which brings its latency from
half a second to 10 ms. Its heap is 768 MiB. The jars come by Maven once and stay in ``build/debezium``.

Contract: the rows are the driver's to write with ``insert``; what was written before the connector's slot exists is not Debezium's.
"""

import json
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.measure import check
from benchmarks.process import free_port
from benchmarks.servers import Servers
from deploy.servers.kafka import fetch, java

HERE = Path(__file__).parent
JARS = HERE.parents[1] / "build" / "debezium"
NAMES = ("debezium-connector-postgres", "connect-runtime")
MEMORY = ("-Xms256m", "-Xmx768m")
TABLE = """create schema {0}; create table {0}.outbox (seq bigint generated always as identity primary key, id uuid not null,
aggregatetype text not null, aggregateid text not null, type text not null, payload jsonb not null)"""
COPY = "copy {0}.outbox (id, aggregatetype, aggregateid, type, payload) from stdin"
WORKER = """
bootstrap.servers={kafka}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={directory}/offsets
offset.flush.interval.ms=1000
listeners=http://127.0.0.1:{port}
"""
CONNECTOR = """
name=outbox
connector.class=io.debezium.connector.postgresql.PostgresConnector
tasks.max=1
plugin.name=pgoutput
database.hostname={host}
database.port={database_port}
database.user={user}
database.password=none
database.dbname={database}
topic.prefix=shop
slot.name={name}
publication.name={name}
publication.autocreate.mode=filtered
table.include.list={name}.outbox
snapshot.mode=no_data
tombstones.on.delete=false
transforms=outbox
transforms.outbox.type=io.debezium.transforms.outbox.EventRouter
transforms.outbox.route.topic.replacement={topic}
"""
TUNED_WORKER = "producer.linger.ms=5\nproducer.batch.size=262144\n"
TUNED_CONNECTOR = "poll.interval.ms=5\nmax.batch.size=8192\nmax.queue.size=32768\n"


class Debezium:
    """The connector with its outbox table.

    Args:
        found: the servers.
        directory: for its settings, its offsets and what it prints.
        topic: where the rows go, without the run's namespace.
        tuned: whether with more than the defaults.
    """

    def __init__(self, found: Servers, directory: str, *, topic: str, tuned: bool) -> None:
        self._directory = directory
        self._schema = found.schema
        self._store = psycopg.connect(found.postgres, autocommit=True)
        self._store.execute(TABLE.format(found.schema))
        fetch(JARS, pom=HERE / "debezium.xml", names=NAMES)
        where = urlsplit(found.postgres)
        names = {
            "kafka": found.kafka,
            "directory": directory,
            "port": free_port(),
            "host": where.hostname,
            "database_port": where.port,
            "user": where.username,
            "database": where.path.strip("/"),
            "name": found.schema,
            "topic": found.topic(topic),
        }
        Path(directory, "worker.properties").write_text(WORKER.format(**names) + (TUNED_WORKER if tuned else ""))
        Path(directory, "outbox.properties").write_text(CONNECTOR.format(**names) + (TUNED_CONNECTOR if tuned else ""))

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it; its first record says when it is ready."""
        command = [java(), *MEMORY, "-cp", f"{JARS}/*", "org.apache.kafka.connect.cli.ConnectStandalone"]
        command += [f"{self._directory}/worker.properties", f"{self._directory}/outbox.properties"]
        with Path(self._directory, "connect.log").open("wb") as output:
            return subprocess.Popen(command, stdout=output, stderr=output)

    def insert(self, rows: Sequence[tuple[str, int]]) -> None:
        """Write (key, number) in one transaction."""
        with self._store.transaction(), self._store.cursor().copy(COPY.format(self._schema).encode()) as copy:
            for key, number in rows:
                copy.write_row((uuid.uuid4(), "order", key, "order.placed", json.dumps(body(number))))

    def stop(self) -> None:
        """Remove what it leaves on the server, once it has ended."""
        with suppress(psycopg.errors.UndefinedObject):
            self._store.execute("select pg_drop_replication_slot(%s)", (self._schema,))
        self._store.execute(f"drop publication if exists {self._schema}")
        self._store.close()


def body(number: int) -> dict[str, object]:
    """The data of a row, the same for every relay."""
    return {"i": number, "customer_id": "c-00001", "sku": "sku-77", "quantity": 2, "unit_price": 1999}


def number_of(value: bytes) -> int:
    """Which row a record is; the router's text is JSON once or twice."""
    found = json.loads(value)
    found = json.loads(found) if isinstance(found, str) else found
    check("i" in found, f"no row of ours: {value[:200]!r}")
    return found["i"]
