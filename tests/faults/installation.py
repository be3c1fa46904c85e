"""A shop of one run: a namespace of its own on the servers, processes that serve it, and what must hold of it at the end.

Neighbours: `run` makes one; `tests.crash.shop` starts the processes, `tests.crash.invariants` knows what is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from millrace.engines.kafka import KafkaSettings
from millrace.testing.conformance.kafka_kit import delete_topics
from millrace.testing.conformance.postgres_kit import PostgresDamage
from millrace.testing.crash import Process, Zygote
from tests.crash.invariants import check_provider, check_story, check_totals
from tests.crash.path import Customer
from tests.crash.shop import Server, ledger_of
from tests.faults.log_watch import LogWatch
from tests.faults.servers import Servers
from tests.faults.traffic import GOODS
from tests.shop_places import disown, files_of, settings_of, variables_of

RECEIVED = 1_000_000
"""Pieces of everything that are added to the opening stock, so that nobody goes without."""
SETTLED_S = 120.0
SETTINGS = {"late-delivery": "86400"}
"""Nobody says that a parcel has arrived, and nobody is to be warned of that."""
FENCED = re.compile(r": fenced: partitions \[")


class Instance(Server):
    """A `parcomolo serve` of the installation; its stream of facts is not followed, the log is watched from outside."""

    told_of = False

    @property
    def handled(self) -> int:
        """Return how many messages this process has handled."""
        lines = self.call("GET", "/metrics").body.decode().splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith("millrace_handled_total{"))


class Installation:
    """See the module; its block starts nothing, and ends everything.

    Args:
        zygote: starts the processes.
        servers: where it lies; the environment names them.
        folder: of its files.
    """

    def __init__(self, zygote: Zygote, servers: Servers, folder: Path) -> None:
        self._zygote = zygote
        self._servers = servers
        self._folder = folder
        self._processes: list[Process] = []
        self.data = folder / "data"
        self.namespace = settings_of(self.data)["namespace"]
        self.running: list[Instance] = []

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what runs, delete what is on the servers."""
        for process in self._processes:
            process.resume()
            process.kill()
        disown(self.data)
        delete_topics(KafkaSettings(self._servers.brokers, namespace=f"{self.namespace}."))
        PostgresDamage(self._servers.store, self.namespace).run("forget_schemas")

    def start(self, **settings: str) -> Instance:
        """Start one more process; returns when it is ready."""
        log = self._folder / f"serve-{len(self._processes)}.log"
        instance = Instance(self._zygote, self.data, log=log, settings=SETTINGS | settings)
        self._processes.append(instance.process)
        self.running = [*self.running, instance]
        return instance

    def kill(self, instance: Instance) -> None:
        """Kill -9."""
        self.running = [each for each in self.running if each is not instance]
        instance.process.kill()

    def leave(self, instance: Instance) -> None:
        """Let a process end as its operator asks it to."""
        self.running = [each for each in self.running if each is not instance]
        assert instance.process.terminate(timeout=60.0) == 0, instance.process.output

    def start_relay(self, name: str, **settings: str) -> Process:
        """Start `millrace relay`; returns when it relays."""
        environment = {"PARCOMOLO_DATA": str(self.data), **variables_of(self.data)}
        environment |= {f"PARCOMOLO_{setting.upper()}": value for setting, value in settings.items()}
        arguments = ["--app", "parcomolo", "relay"]
        relay = self._zygote.start("millrace.cli:main", arguments, environment=environment, log=self._folder / f"{name}.log")
        self._processes.append(relay)
        assert relay.line().startswith("Relaying"), relay.output
        return relay

    def stock_up(self) -> None:
        """Add enough of everything that customers buy."""
        for sku in GOODS:
            answer = self.running[0].call("POST", f"/api/stock/{sku}/adjust", {"delta": RECEIVED, "reason": "many customers"})
            assert answer.status == 200, answer

    @property
    def fenced(self) -> int:
        """Return how often a process had a commit refused, because its partitions had another owner."""
        return sum(len(FENCED.findall(process.output)) for process in self._processes)

    def check(self, customers: Sequence[Customer], watch: LogWatch) -> None:
        """Wait until everybody has done everything; then orders, stock, money, log and ledger are exact. Ends the processes."""
        for instance in self.running:
            instance.settle(timeout=SETTLED_S)
        for instance in self.running:
            instance.process.until(lambda instance=instance: instance.call("GET", "/health").status == 200, timeout=SETTLED_S)
        check_totals(self.running[0], customers, received=dict.fromkeys(GOODS, RECEIVED))
        for customer in customers:
            check_story(watch.facts[customer.order_id], customer, asked_again=True)
        assert not watch.overtaken, watch.overtaken[:3]
        for instance in list(self.running):
            self.leave(instance)
        check_provider(files_of(self.data), customers)
        self._check_ledger(watch)

    def _check_ledger(self, watch: LogWatch) -> None:
        """The ledger balances, and counts as many published rows as a reader has met."""
        lines = json.loads(ledger_of(self._zygote, self.data, "--json", log=self._folder / "ledger.log"))
        published = {line["where"]: line["found"] for line in lines if line["what"] == "published"}
        met = {source.rpartition("/")[2]: count for source, count in watch.distinct().items()}
        assert met == {service: count for service, count in published.items() if count}, (met, published)
