"""A service's schema on PostgreSQL: made and migrated once however many instances start, refused by name, looked at without a trace."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from millrace.engines.postgres import PostgresEngine, queries, schema
from millrace.engines.postgres.checkup import judge
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.held import FIRST, LetterFilter
from millrace.split import SplitEngine
from millrace.testing.conformance.postgres_kit import PostgresDamage, server_address
from tests.postgres.conftest import NewEngine

SECOND = "create table {schema}.second (n int);\ninsert into {schema}.second values (1);"


async def test_instances_that_start_at_once_migrate_once(new_engine: NewEngine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight instances make the schema, and eight of a later release migrate it, at the same moment; each migration is applied once."""
    for texts in (queries.migrations(), (*queries.migrations(), SECOND)):
        monkeypatch.setattr(schema, "migrations", lambda texts=texts: texts)
        stores = [new_engine().store("s") for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        assert [await store.epoch() for store in stores] == [1] * 8
        for store in stores:
            await store.close()
    with psycopg.connect(server_address()) as connection:
        assert connection.execute(f'select n from "{namespace}_s".second').fetchall() == [(1,)]


async def test_what_the_first_schema_held_is_kept(new_engine: NewEngine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead letter of a store of the first schema is there after the migration, and its last failure was when it was held first."""
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "migrations", lambda: queries.migrations()[:1])
        store = new_engine().store("s")
        await store.open()
        await store.close()
    with psycopg.connect(server_address()) as connection:
        connection.execute(f"insert into \"{namespace}_s\".held values ('p', 't', 0, 7, 'k', 'dead', 'v', 'r', 'd', 5, 0, 0, 123)")
    store = new_engine().store("s")
    await store.open()
    (row,) = await store.reader.letters.page(LetterFilter(), after=FIRST, limit=9)
    assert (row.place, row.attempts, row.last_at, row.fingerprint, row.history) == (("p", "t", 0, 7), 5, 123, "", "")
    await store.close()


async def test_a_failed_migration_leaves_nothing(new_engine: NewEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails in its midst is undone as a whole, and the next start begins it anew."""
    whole = (*queries.migrations(), SECOND)
    monkeypatch.setattr(schema, "migrations", lambda: (*queries.migrations(), f"{SECOND} select 1 / 0;"))
    store = new_engine().store("s")
    with pytest.raises(StoreUnavailable):
        await store.open()
    monkeypatch.setattr(schema, "migrations", lambda: whole)
    store = new_engine().store("s")
    await store.open()
    await store.close()


async def test_newer_schemas_are_refused(new_engine: NewEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a later release is refused by name, for working as for looking, and an older one for looking."""
    with monkeypatch.context() as later:
        later.setattr(schema, "migrations", lambda: (*queries.migrations(), SECOND))
        store = new_engine().store("s")
        await store.open()
        await store.close()
    for engine in (new_engine(), new_engine().reading()):
        with pytest.raises(StoreUnavailable, match="schema 3, this release knows 2") as refused:
            await engine.store("s").open()
        assert refused.value.reason == "newer_version"
    monkeypatch.setattr(schema, "migrations", lambda: (*queries.migrations(), SECOND, SECOND))
    with pytest.raises(StoreUnavailable) as refused:
        await new_engine().reading().store("s").open()
    assert refused.value.reason == "older_version"


async def test_a_schema_made_for_us_is_filled_and_another_is_not(new_engine: NewEngine, namespace: str) -> None:
    """An empty schema is filled, as where a database administrator makes them; one with other tables is refused."""
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute(f'create schema "{namespace}_empty"')
        connection.execute(f'create schema "{namespace}_taken"')
        connection.execute(f'create table "{namespace}_taken".theirs (n int)')
    engine = new_engine()
    store = engine.store("empty")
    await store.open()
    assert await store.epoch() == 1
    await store.close()
    with pytest.raises(StoreUnavailable) as refused:
        await engine.store("taken").open()
    assert refused.value.reason == "not_ours"


async def test_looking_leaves_no_trace(new_engine: NewEngine, damage: PostgresDamage) -> None:
    """A snapshot shows one moment, changes nothing, and makes nothing where nothing is."""
    writing = new_engine().store("s")
    reading = new_engine().reading()
    with pytest.raises(StoreUnavailable) as absent:
        await reading.store("s").open()
    assert absent.value.reason == "absent"

    await writing.open()
    snapshot = reading.store("s")
    await snapshot.open()
    transaction = await writing.begin()
    await transaction.states.save([("k", "a", b"1")])
    await transaction.commit()
    assert await snapshot.reader.states.load("k", ["a"]) == {}
    assert await writing.reader.states.load("k", ["a"]) == {"a": b"1"}
    assert all(well for _, well, _ in await snapshot.check())
    with pytest.raises(StoreUnavailable) as refused:
        await snapshot.begin()
    assert refused.value.reason == "read_only"
    await snapshot.close()
    await reading.stop()
    await writing.close()


async def test_roles_see_their_own_schema_only(new_engine: NewEngine, namespace: str) -> None:
    """A role per service works in the schema that was made for it, and cannot open another's."""
    role = f"{namespace}_role"
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute(f'create role "{role}" login')
        connection.execute(f'create schema "{namespace}_mine" authorization "{role}"')
    theirs = new_engine().store("theirs")
    await theirs.open()
    await theirs.close()
    engine = PostgresEngine(server_address().replace("//postgres@", f"//{role}@"), namespace=namespace)
    try:
        mine = engine.store("mine")
        await mine.open()
        assert await mine.epoch() == 1
        await mine.close()
        with pytest.raises(StoreUnavailable, match="permission denied") as refused:
            await engine.store("theirs").open()
        assert refused.value.reason == "unauthorized"
        with pytest.raises(StoreUnavailable, match="permission denied"):
            await engine.store("new").open()
    finally:
        await engine.stop()
        with psycopg.connect(server_address(), autocommit=True) as connection:
            connection.execute(f'drop owned by "{role}" cascade')
            connection.execute(f'drop role "{role}"')


def test_settings_that_lose_data_are_named() -> None:
    """Each finding that is not well says what to change."""
    found = (120_000, "12.9", "off", "off", "off", "minimal", 10_000_000, 20, 15, True, False)
    findings = {what: (well, text) for what, well, text in judge(found, before=20.0, after=20.1, version=len(queries.migrations()))}
    assert [what for what, (well, _) in findings.items() if well] == ["schema"]
    for what in ("fsync", "full_page_writes", "synchronous_commit", "wal_level"):
        assert f"set {what}" in findings[what][1] or "set it to on" in findings[what][1]
    assert findings["clock"][1].startswith("-10.000 s")
    assert "max_connections" in findings["connections"][1]
    well = (150_000, "15.1", "on", "on", "on", "replica", 20_050_000, 100, 15, False, True)
    assert all(well for _, well, _ in judge(well, before=20.0, after=20.1, version=len(queries.migrations())))


def test_an_address_is_never_shown() -> None:
    """What a log may print of an engine holds no password."""
    engine = PostgresEngine("postgresql://me:secret@127.0.0.1/x")
    assert "secret" not in repr(engine)
    assert SplitEngine(log=engine, stores=engine).name == "postgres/postgres"
    for call in (engine.log, lambda: engine.leases("i")):
        with pytest.raises(ConfigurationError, match="SplitEngine"):
            call()
    for wrong in ("A", "a b", 'a"'):
        with pytest.raises(ConfigurationError, match="namespace"):
            PostgresEngine("x", namespace=wrong)
    with pytest.raises(ConfigurationError, match="63 bytes"):
        engine.store("s" * 64)
