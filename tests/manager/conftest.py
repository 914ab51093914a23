"""What the tests of a manager need that is not made in a moment."""

from collections.abc import Iterator

import pytest

from tests.postgresql import PostgreSQL, find_or_start
from titan.journal import database


# Of a file and not of the run: tests elsewhere look for processes that were left behind.
@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for the tests of a file."""
    server = find_or_start()
    with pytest.MonkeyPatch.context() as patch:
        # A server that is slow to begin a session is not away.
        patch.setitem(database._DEFAULTS, "connect_timeout", 60)
        yield server
    server.close()
