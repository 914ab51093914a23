"""Which managers there are, and how far each has read: for people, and for what may be removed."""

from __future__ import annotations

from typing import NamedTuple

from titan.journal.database import Database
from titan.journal.schema import SCHEMA
from titan.journal.session import Session


class Member(NamedTuple):
    """A manager, as it last said."""

    address: str
    """Its name, too: no two of one journal have the same."""
    applied_lsn: int
    seconds_ago: float
    """By the database's clock."""


class MemberTable:
    """The managers of one journal. What a method raises is JournalUnavailable or JournalRefused."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "members")

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def seen(self, address: str, applied_lsn: int) -> None:
        """Says that it is there, and how far it has read."""
        self._session.execute(
            f"INSERT INTO {SCHEMA}.manager (address, applied_lsn, seen_at)"
            " VALUES (%s, %s, clock_timestamp()) ON CONFLICT (address) DO UPDATE SET"
            " applied_lsn = excluded.applied_lsn, seen_at = excluded.seen_at",
            (address, applied_lsn),
        )

    def list(self) -> list[Member]:
        """All that were ever seen and not removed, by address."""
        found = self._session.execute(
            "SELECT address, applied_lsn,"
            " extract(epoch FROM clock_timestamp() - seen_at)::float8"
            f" FROM {SCHEMA}.manager ORDER BY address"
        )
        return [Member(*each) for each in found]

    def remove(self, address: str) -> None:
        """Forgets one that will not come back."""
        self._session.execute(f"DELETE FROM {SCHEMA}.manager WHERE address = %s", (address,))
