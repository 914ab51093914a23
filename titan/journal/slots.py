"""Reader slots in the database: where readers of the log are, whichever manager leads."""

from __future__ import annotations

import wal
from titan.journal.database import Database
from titan.journal.schema import SCHEMA
from titan.journal.session import Session


class SlotTable:
    """The slots of one journal. What a method raises is JournalUnavailable or JournalRefused."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "slots")

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def read(self) -> list[wal.Slot]:
        """All of them, by name."""
        found = self._session.execute(
            f"SELECT meta.log_id, name, lsn, chain FROM {SCHEMA}.slot, {SCHEMA}.meta ORDER BY name"
        )
        return [
            wal.Slot(name, wal.Position(bytes(log_id), lsn, chain))
            for log_id, name, lsn, chain in found
        ]

    def write(self, name: str, position: wal.Position) -> None:
        """Makes or moves one."""
        self._session.execute(
            f"INSERT INTO {SCHEMA}.slot (name, lsn, chain) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET lsn = excluded.lsn, chain = excluded.chain",
            (name, position.lsn, position.chain),
        )

    def remove(self, name: str) -> None:
        """Removes one, if it is there."""
        self._session.execute(f"DELETE FROM {SCHEMA}.slot WHERE name = %s", (name,))
