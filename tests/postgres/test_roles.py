"""A role per service on a real server: services of the shop run with what `stores roles` prints, and see no schema of another."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from millrace.access import roles_for_stores
from millrace.application import Application
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.rights import Role
from millrace.testing.conformance.postgres_kit import server_address
from parcomolo.bootstrap import assemble
from parcomolo.configuration import configuration


class Shop:
    """The shop on a namespace of its own, whose roles exist."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        self.password = secrets.token_hex(8)
        self.roles: dict[str, Role] = {
            role.service: role for role in roles_for_stores(self.application("orders"), role=f"{namespace}_{{service}}")
        }

    def address(self, service: str = "") -> str:
        """Return the address with the role of a service, or the administrator's."""
        if not service:
            return server_address()
        return make_conninfo(server_address(), user=self.roles[service].role, password=self.password)

    def application(self, service: str, *, store: str = "") -> Application:
        """Return the application as the process of one service runs it."""
        settings = {"store": store or "postgresql://nobody@nowhere/x", "namespace": self.namespace, "data": str(self.folder)}
        return assemble(configuration(settings | {"log": "sqlite:", "services": service}))

    def grant(self) -> None:
        """Run what is printed for every service, as an administrator does, twice: it may be run again."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            for role in [*self.roles.values()] * 2:
                connection.execute(cast("LiteralString", role.sql))
                connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role.role), sql.Literal(self.password)))

    def forget(self) -> None:
        """Remove schemas and roles."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            for role in self.roles.values():
                name = sql.Identifier(role.role)
                connection.execute(sql.SQL("drop owned by {} cascade").format(name))
                connection.execute(sql.SQL("drop role {}").format(name))


@pytest.fixture
def shop(namespace: str, tmp_path: Path) -> Iterator[Shop]:
    """The shop with its roles."""
    found = Shop(namespace, tmp_path)
    found.grant()
    yield found
    found.forget()


def url_of(conninfo: str) -> str:
    """Return connection parameters as the URL that the shop's setting takes."""
    values = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{values['user']}:{values['password']}@{values['host']}:{values['port']}/{values['dbname']}"


async def test_services_run_with_their_roles(shop: Shop) -> None:
    """A service makes its tables and works with its role; the server refuses it the schema of another."""
    for service in ("catalogue", "inventory"):
        async with shop.application(service, store=url_of(shop.address(service))) as app:
            assert app.health().status == "ok"
            await app.caught_up()
    with psycopg.connect(shop.address("inventory"), autocommit=True) as connection:
        for service, allowed in (("inventory", True), ("catalogue", False)):
            asked = sql.SQL("select count(*) from {}.journal").format(sql.Identifier(shop.roles[service].schema))
            if allowed:
                assert connection.execute(asked).fetchone() is not None
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(asked)


async def test_a_service_with_the_role_of_another_does_not_start(shop: Shop) -> None:
    """The start fails with the schema that the role may not use, and without the password."""
    async with shop.application("catalogue", store=url_of(shop.address("catalogue"))):
        pass
    with pytest.raises(StoreUnavailable, match=rf"permission denied for schema {shop.roles['catalogue'].schema}") as found:
        await shop.application("catalogue", store=url_of(shop.address("inventory"))).start()
    assert found.value.reason == "unauthorized"
    assert shop.password not in str(found.value)


async def test_what_is_there_goes_over_to_the_role(shop: Shop) -> None:
    """A schema that an administrator's role has filled before belongs to the service's role afterwards."""
    shop.forget()
    async with shop.application("inventory", store=shop.address()):
        pass
    shop.grant()
    async with shop.application("inventory", store=url_of(shop.address("inventory"))) as app:
        assert app.health().status == "ok"


@pytest.mark.parametrize("role", ["", "x" * 64, "a$millrace$b"])
def test_names_that_cannot_work_are_refused(shop: Shop, role: str) -> None:
    """A name that PostgreSQL would cut or misread is refused."""
    with pytest.raises(ConfigurationError):
        roles_for_stores(shop.application("orders"), role=role)


def test_names_are_quoted(shop: Shop) -> None:
    """A role's name is a name, whatever it looks like."""
    (role,) = [role for role in roles_for_stores(shop.application("orders"), role="o'ro\\le") if role.service == "orders"]
    with psycopg.connect(shop.address()) as connection:
        connection.execute(cast("LiteralString", role.sql))
        found = connection.execute("select 1 from pg_roles where rolname = %s", ["o'ro\\le"]).fetchone()
        connection.rollback()
    assert found == (1,)
