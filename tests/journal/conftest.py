"""Databases with an empty journal."""

from collections.abc import Iterator

import pytest

from tests.journal.parties import Journal
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
def journal(postgresql: PostgreSQL) -> Iterator[Journal]:
    """A new one, empty."""
    made = Journal(postgresql.make_database())
    yield made
    made.close()


@pytest.fixture
def deaf_standby(postgresql: PostgreSQL) -> Iterator[None]:
    """No commit is confirmed: the server waits for a standby that there is not."""
    if not postgresql.is_own:
        pytest.skip("it needs a server of its own")
    with postgresql.deaf_standby():
        yield
