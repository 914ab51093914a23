"""Journals in a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.cli.conftest import titan as titan  # noqa: PLC0414 - a fixture
from tests.mirror.builders import Store
from tests.postgresql import PostgreSQL, find_or_start, patience


# Of this package and not of the run: tests elsewhere look for processes that were left behind.
@pytest.fixture(scope="package")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for all of these tests."""
    server = find_or_start()
    with patience():
        yield server
    server.close()


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    """A database with nothing in it."""
    return postgresql.make_database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A journal, empty."""
    made = Store(url)
    made.database.create()
    yield made
    made.close()
