"""The whole shop on a broker with TLS and access control lists: each service with a user of its own and the rights that are printed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from deploy.servers.secure import ADMIN, SecureKafka
from millrace.application import Application
from millrace.engines.kafka import KafkaSettings, read_properties
from millrace.engines.kafka.client import Client
from parcomolo.bootstrap import assemble
from parcomolo.configuration import SERVICES, configuration
from parcomolo.web.assembly import web_application
from tests.e2e.running_shop import order_of, run
from tests.engines.kafka_places import jars, moved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
NAMESPACE = "secured"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker of this module's own, with a user per service of the shop."""
    cluster = SecureKafka(tmp_path_factory.mktemp("secure"), jars=jars(), users=SERVICES)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def settings_of(service: str, broker: SecureKafka, data: Path) -> dict[str, str]:
    """Return the settings of the process of a service."""
    properties = str(broker.folder / f"{service}.scram.properties")
    where = {"data": str(data), "log": f"kafka://{broker.address}", "kafka-config": properties, "namespace": NAMESPACE}
    return where | {"services": service, "shipping-delay": "0"}


async def grant(broker: SecureKafka, data: Path) -> None:
    """Do as an administrator with what `topics acls` prints."""
    places = {name.replace("-", "_"): value for name, value in settings_of("orders", broker, data).items() if name != "data"}
    ran = run("millrace", "--app", "parcomolo", "topics", "acls", "--principal", "User:{service}", "--json", data=data, **places)
    assert ran.status == 0, ran
    rights = ran.json
    assert {right["service"] for right in rights} == set(SERVICES)
    admin = Client(KafkaSettings(broker.address, properties=read_properties(broker.folder / f"{ADMIN}.scram.properties")))
    bindings = [binding for right in rights for binding in bindings_of(right)]
    await admin.answers(admin.admin.create_acls(bindings), what="granting")


def bindings_of(right: dict[str, Any]) -> list[AclBinding]:
    """Return a right as the broker keeps it."""
    resource, pattern = ResourceType[right["resource"].upper()], ResourcePatternType[right["pattern"].upper()]
    return [
        AclBinding(resource, right["name"], pattern, right["principal"], "*", AclOperation[operation], AclPermissionType.ALLOW)
        for operation in right["operations"]
    ]


@pytest_asyncio.fixture
async def shop(broker: SecureKafka, tmp_path: Path) -> AsyncIterator[dict[str, Application]]:
    """Every service as a process runs it, logged in as its user."""
    data = tmp_path / "data"
    await grant(broker, data)
    async with AsyncExitStack() as stack:
        yield {
            service: await stack.enter_async_context(assemble(configuration(settings_of(service, broker, data)))) for service in SERVICES
        }


async def test_an_order_is_completed(shop: dict[str, Application]) -> None:
    """Placed, reserved, paid, shipped, delivered and counted, and every service is well."""
    app = shop["orders"]
    transports = {service: httpx.ASGITransport(app=web_application(shop[service], services=[service])) for service in SERVICES}
    async with AsyncExitStack() as stack:
        http = {
            service: await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop"))
            for service, transport in transports.items()
        }

        async def until(service: str, method: str, path: str, wanted: Any, **more: Any) -> Any:
            async with asyncio.timeout(60):
                while not wanted(answer := await http[service].request(method, f"/api/{path}", **more)):
                    await moved(app.parts.feed)
            return answer.json()

        placed = await until("orders", "POST", "orders", lambda answer: answer.status_code == 201, json=order_of(("cheese", 2)))
        path = f"orders/{placed['order_id']}"
        order = await until("orders", "GET", path, lambda answer: answer.json()["status"] == "completed")
        assert (order["payment_status"], order["fulfilment_status"]) == ("paid", "shipped")
        assert (await http["orders"].post(f"/api/{path}/deliver")).status_code == 200
        await until("rewards", "GET", "rewards/ada", lambda answer: answer.json()["purchases"] == 1)
        await until("reports", "GET", "reports/orders", lambda answer: answer.json()["succeeded"] == 1)
        assert (await http["inventory"].get("/api/stock/cheese")).json()["on_hand"] == 48
        page = await http["orders"].get(f"/{path}", headers={"Accept": "text/html"})
        assert 'data-fact="item-shipped"' in page.text
    for service, each in shop.items():
        assert each.health().status == "ok", (service, each.health())
