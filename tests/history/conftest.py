"""Databases, empty and of both kinds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgresql import PostgreSQL, find_or_start
from titan.history.database import open_for_writing, url_of
from titan.history.store import Store


# Of this package and not of the run: tests elsewhere look for processes that were left behind.
@pytest.fixture(scope="package")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for all of these tests."""
    server = find_or_start()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """What makes a database, and returns what --history takes."""
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        return server.make_database
    numbers = iter(range(100))
    return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.sqlite"


@pytest.fixture
def engine(new_url: Callable[[], str], tmp_path: Path) -> Iterator[sa.Engine]:
    """A database that is written to."""
    made = open_for_writing(url_of(new_url(), tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> Store:
    """The tables in it, empty."""
    made = Store(engine)
    made.migrate()
    return made
