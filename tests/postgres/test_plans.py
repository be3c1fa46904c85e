"""Statements that run per batch look their rows up by key, also where the plan was made while the table was empty."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import sql

from millrace.engines.postgres.queries import Statements
from millrace.engines.postgres.store import PostgresStore
from millrace.testing.conformance.postgres_kit import server_address

BY_KEY = (
    "load_states",
    "load_states for update",
    "save_states",
    "add_states",
    "expect_no_states",
    "streams",
    "load_snapshots",
    "save_snapshots",
    "append_journal",
    "tail_journal",
    "load_positions for update",
    "load_places for update",
    "claim_positions",
    "save_positions",
    "load_held_keys for update",
    "save_held",
    "set_timers",
    "due_timers for update",
    "next_timers",
    "timers_of_key",
    "load_documents for update",
    "save_documents",
    "add_documents",
    "expect_no_documents",
    "add_lookups",
    "page_documents",
    "find_answers",
    "add_answers",
    "find_seen",
    "add_seen",
)
ALLOWED = re.compile(r"Filter: \(\(counted\.bytes - octet_length|Filter: \(NOT \(InitPlan|One-Time Filter|Filter: \(partition IS NOT NULL")


@pytest.mark.parametrize("name", BY_KEY)
async def test_rows_are_looked_up(store: PostgresStore, name: str) -> None:
    """No scan of a whole table, and no rows that are read only to be filtered out; each key is an index condition."""
    text = Statements("store.sql", store.schema)[name].text.decode()
    settings = re.sub(r"\$\d::text", "'0'", Statements("server.sql")["settings"].text.decode())
    count = max(map(int, re.findall(r"\$(\d+)", text)), default=0)
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute(sql.SQL(settings.replace("$4::int8", "pg_backend_pid()")))  # type: ignore[arg-type]
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute(sql.SQL(f"prepare look as {text}"))  # type: ignore[arg-type]
        nulls = ", ".join(["null"] * count)
        plan = [line for (line,) in connection.execute(sql.SQL(f"explain execute look ({nulls})"))]  # type: ignore[arg-type]
    wrong = [line for line in plan if re.search(r"Seq Scan|Filter:", line) and not ALLOWED.search(line)]
    assert not wrong, "\n".join(plan)
