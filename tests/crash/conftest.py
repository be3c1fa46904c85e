"""Options and fixtures of the crash tests: one zygote and one opened shop for all tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.testing.crash import Zygote
from parcomolo.configuration import CHOREOGRAPHY
from tests.crash.shop import PRELOAD, opened_shop

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how to repeat one crash point, and how to accept new steps."""
    group = parser.getgroup("crash")
    group.addoption("--crash-at", type=int, metavar="N", help="try this crash point alone")
    group.addoption("--crash-update", action="store_true", help="write the golden files instead of comparing with them")


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The process that all servers are forked from."""
    with Zygote(preload=PRELOAD, folder=ROOT) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def opened(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with products and stock, and without orders; copy it."""
    with opened_shop(zygote, tmp_path_factory.mktemp("shop")) as data:
        yield data


@pytest.fixture(scope="session")
def choreographed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same of a shop whose services follow each other's facts."""
    with opened_shop(zygote, tmp_path_factory.mktemp("shop"), style=CHOREOGRAPHY) as data:
        yield data
