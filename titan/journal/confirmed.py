"""The journal as far as it is sure to stay: what managers may bring into their copies and states.

A row can be seen that may yet be lost: of who was waiting for a synchronous standby to have it when
the wait was broken off, or the server was started anew. Nobody was told that it is durable, and a
failover to that standby takes it back. So the newest row counts only when

- another one follows it: whoever appended that had been told that the one before is durable, or had
  taken the lease since, and the standby has all that comes before what it has confirmed;
- or a commit made after it was seen, on the same connection, is confirmed. That is why one is made
  when nothing follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import wal
from titan.journal.database import Database
from titan.journal.errors import JournalUnavailable
from titan.journal.lease import LOCK_FIRST, LeaseTable
from titan.journal.rows import Row
from titan.journal.schema import CHANNEL
from titan.journal.session import Session
from titan.journal.tail import BYTES_MAX, LISTEN_FIRST, Tail

HOLD_SECONDS: Final = 0.05
"""Under load the next row comes sooner, and no commit is needed."""


def confirm(session: Session) -> None:
    """Returns when all is durable that this session has seen. Raises JournalUnavailable."""
    # A record of the server's own log, of no table, which nobody decodes.
    session.execute(f"SELECT pg_logical_emit_message(true, '{CHANNEL}', '')")


class ConfirmedTail:
    """Reads along as `Tail` does, but for the newest row until it is sure to stay.

    Raises what that raises.
    """

    def __init__(
        self, database: Database, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = Session(database, "follow", on_connect=f"{LISTEN_FIRST}; {LOCK_FIRST}")
        self._tail = Tail(database, self._session)
        self.lease = LeaseTable(database, self._session)
        """By which the lease is taken: what is read then is what the server has that gave it."""
        self._monotonic = monotonic
        # Everything up to it is durable.
        self._confirmed_lsn = 0
        # The row that is waited with, by its last record, and since when.
        self._held_lsn = 0
        self._held_since = 0.0
        # On which connection the lease was taken.
        self._taken_on: int | None = None

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def end(self) -> wal.Position:
        """Behind the last row, whether or not it is sure to stay."""
        return self._tail.end()

    def rows(self, after: wal.Position, bytes_max: int = BYTES_MAX) -> list[Row]:
        """The rows behind that place that are sure to stay; see `Tail.rows`."""
        rows = self._tail.rows(after, bytes_max)
        if self._taken_on not in (None, self._session.connections):
            raise JournalUnavailable("the connection is gone on which the lease was taken")
        if not rows or self._is_sure(rows):
            return rows
        lsn, now, connection = rows[-1].last_lsn, self._monotonic(), self._session.connections
        if lsn != self._held_lsn:
            self._held_lsn, self._held_since = lsn, now
        elif now - self._held_since >= HOLD_SECONDS:
            confirm(self._session)
            if self._session.connections == connection:
                self._confirmed_lsn = lsn
                return rows
        return rows[:-1]

    def wait(self, seconds: float) -> None:
        """Until there may be more; see `Tail.wait`."""
        is_holding = self._held_lsn > self._confirmed_lsn
        self._tail.wait(min(seconds, HOLD_SECONDS) if is_holding else seconds)

    def note_taken(self) -> None:
        """The lease was taken by `lease`, a commit after all rows that there are or will be."""
        self._taken_on = self._session.connections

    def _is_sure(self, rows: list[Row]) -> bool:
        """Whether the newest of them is."""
        newest = rows[-1].last_lsn
        if self._taken_on is not None or newest <= self._confirmed_lsn:
            return True
        # The others are in any case, and of one alone something has to come.
        if len(rows) == 1 and self._tail.end().lsn > newest:
            self._confirmed_lsn = newest
            return True
        return False
