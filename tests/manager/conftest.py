"""What the tests of a manager need that is not made in a moment."""

from collections.abc import Iterator

import pytest

from tests.postgresql import PostgreSQL, find_or_start, patience


# Of a file and not of the run: tests elsewhere look for processes that were left behind.
@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for the tests of a file."""
    server = find_or_start()
    with patience():
        yield server
    server.close()
