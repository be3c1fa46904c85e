"""Where the servers for tests are: one rule for every test that needs one.

An environment variable names a server. Without it, or without what else a test needs, the test is skipped with that reason; where
`MILLRACE_REQUIRE_ENGINES=1` says that no engine may be left out, it fails, so that a build cannot leave one out unseen.

Neighbours: the kits of engines on servers, and tests that need a server beside or instead of a kit.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = "MILLRACE_REQUIRE_ENGINES"
KAFKA = "MILLRACE_TEST_KAFKA"
POSTGRES = "MILLRACE_TEST_POSTGRES"


def server(variable: str) -> str:
    """Return what an environment variable says about where a server is; without it, skip the test or fail it."""
    found = os.environ.get(variable, "")
    if not found:
        missing(f"{variable} names no server; `make servers` starts one and writes it into .servers.env")
    return found


def missing(reason: str) -> NoReturn:
    """Skip the test that cannot run, or fail it where no engine may be left out."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}; {REQUIRED}=1 says that no engine may be left out")
    pytest.skip(reason)


__all__ = ["KAFKA", "POSTGRES", "missing", "server"]
