"""The pytest plugin that comes with the package: an application under test in one line, and the conformance suite.

    async def test_an_order_is_placed(millrace_app):
        app = await millrace_app(orders, inventory)
        outcome = await app.execute(PlaceOrder(...))
        await settled(app)

Async fixtures are made with pytest-asyncio, which the extra `millrace[testing]` installs; without it they say so when they are asked for,
and the rest of pytest is left alone.

Neighbours: pytest finds it by the entry point; `settling` waits, `conformance` holds the suite whose `engine_kit` is made here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.application import Application
from millrace.clock import ManualClock
from millrace.engines.sqlite import SqliteEngine
from millrace.retry import RetryPolicy
from millrace.service import Service
from millrace.testing.conformance.kit import EngineKit, kit_of

StartApplication = Callable[..., Awaitable[Application]]


def _async_fixture(function: Any) -> Any:
    if importlib.util.find_spec("pytest_asyncio") is not None:
        return importlib.import_module("pytest_asyncio").fixture(function)

    def absent() -> None:
        pytest.skip("this fixture needs pytest-asyncio: install millrace[testing]")

    return pytest.fixture(name=function.__name__)(absent)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the conformance suite."""
    group = parser.getgroup("millrace")
    group.addoption(
        "--millrace-engine",
        action="append",
        default=[],
        metavar="NAME",
        help="engine(s) to hold to the conformance suite: a known name, module:KitClass, or two of these as log/stores; default sqlite",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for an `engine_kit` on every engine that was named."""
    if "engine_kit" in metafunc.fixturenames:
        names: list[str] = metafunc.config.getoption("--millrace-engine") or ["sqlite"]
        metafunc.parametrize("engine_kit", names, indirect=True, scope="function")


@pytest.fixture
def engine_kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineKit]:
    """An engine as the conformance suite wants it, on a place of its own."""
    kit = kit_of(request.param, tmp_path)
    yield kit
    kit.close()


@pytest.fixture
def millrace_clock() -> ManualClock:
    """A clock that moves only when told to; see `millrace.testing.advance`."""
    return ManualClock()


@pytest.fixture
def millrace_engine(tmp_path: Path) -> SqliteEngine:
    """A fresh embedded engine."""
    return SqliteEngine(tmp_path / "millrace")


@_async_fixture
async def millrace_app(millrace_clock: ManualClock, tmp_path: Path) -> AsyncIterator[StartApplication]:
    """Return a function that starts an application of some services; all are stopped at the end of the test.

    Every application of one test works on one folder, so a second call is a restart or another process. Keywords go to `Application`;
    a failed message is tried again at once, three times in all, unless a `policy` is given.
    """
    started: list[Application] = []

    async def start(*services: Service, name: str = "test", **options: Any) -> Application:
        options.setdefault("clock", millrace_clock)
        options.setdefault("policy", RetryPolicy(attempts=3, first_s=0.0))
        options.setdefault("engine", SqliteEngine(tmp_path / "millrace"))
        app = Application(name, services, **options)
        await app.start()
        started.append(app)
        return app

    yield start
    for app in reversed(started):
        await app.stop()
