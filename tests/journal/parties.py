"""What the tests of the journal have in common: who appends, and who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any, TypeVar

import psycopg

import wal
from tests.cluster import wait_until
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.lease import LeaseTable
from titan.journal.tail import Tail

T = TypeVar("T")
LONG_SECONDS = 3600.0


class Journal:
    """A database with an empty journal, and all that use it, which are closed with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)
        self.log_id = self.database.create()
        self._made = ExitStack()
        self.tail = self.closed_at_end(Tail(self.database))
        self.lease = self.closed_at_end(LeaseTable(self.database))

    def close(self) -> None:
        """Ends all connections."""
        self._made.close()

    def closed_at_end(self, made: T) -> T:
        """What has a close() that is to be called."""
        self._made.enter_context(closing(made))  # type: ignore[type-var]
        return made

    def execute(self, query: str, *parameters: Any) -> list[Any]:
        """A statement of a session of its own."""
        with self.database.connect("test") as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A session whose statements are committed, or rolled back, when it is told."""
        with self.database.connect("test") as connection:
            connection.autocommit = False
            yield connection

    def take(self, holder: str = "ada", seconds: float = LONG_SECONDS) -> int:
        """The term that begins, whoever leads."""
        self.expire()
        term = self.lease.try_take(holder, f"{holder}:50051", seconds)
        assert term is not None
        return term

    def expire(self) -> None:
        """The lease is over by the database's clock."""
        self.execute("UPDATE titan_journal.lease SET expires = clock_timestamp()")

    def leader(self, holder: str = "ada") -> Appender:
        """An appender of a new term, at the end."""
        term = self.take(holder)
        return self.appender(term, self.tail.end())

    def appender(self, term: int, position: wal.Position) -> Appender:
        """One of that term."""
        return self.closed_at_end(Appender(self.database, term, position))

    def start(self) -> wal.Position:
        """Before the first row that there is, or will be."""
        return wal.Position(
            *self.execute("SELECT log_id, base_lsn, base_chain FROM titan_journal.meta")[0]
        )

    def payloads(self) -> list[bytes]:
        """All records of the journal, checked."""
        position, found = self.start(), []
        while rows := self.tail.rows(position):
            for row in rows:
                found += [record.payload for some in row.records() for record in some]
            position = wal.Position(position.log_id, rows[-1].last_lsn, rows[-1].chain)
        return found

    def waits(self, purpose: str, kind: str) -> int:
        """The process of the server that waits so for that purpose, once it does."""

        def find() -> int:
            found = self.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
                " AND %s IN (wait_event_type, wait_event) AND datname = current_database()",
                f"titan {purpose}",
                kind,
            )
            return found[0][0] if found else 0

        return wait_until(find, f"{purpose} waits for {kind}")


@contextmanager
def beside(function: Callable[[], T]) -> Iterator[Future[T]]:
    """What runs in a thread meanwhile, and has ended at the end."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(function)
