"""Removing rows that nobody needs any more, from the oldest on."""

from __future__ import annotations

from typing import Final

from titan.journal.database import Database
from titan.journal.schema import SCHEMA
from titan.journal.session import Session

_ROWS_AT_ONCE: Final = 1000
_SECONDS: Final = 60.0

# The position before the first row moves with it: what follows is proved by its chain CRC.
_REMOVE: Final = f"""
WITH gone AS (
    DELETE FROM {SCHEMA}.journal WHERE first_lsn IN (
        SELECT first_lsn FROM {SCHEMA}.journal
        WHERE first_lsn < %(lsn)s AND last_lsn < %(lsn)s
            AND first_lsn < (SELECT max(first_lsn) FROM {SCHEMA}.journal)
        ORDER BY first_lsn LIMIT {_ROWS_AT_ONCE}
    ) RETURNING last_lsn, chain
), newest AS (
    SELECT last_lsn, chain FROM gone ORDER BY last_lsn DESC LIMIT 1
)
UPDATE {SCHEMA}.meta SET base_lsn = newest.last_lsn, base_chain = newest.chain FROM newest
RETURNING (SELECT count(*) FROM gone)
"""


class RetentionTable:
    """What may go of one journal. Who calls answers for snapshots in the place of what goes.

    What a method raises is JournalUnavailable or JournalRefused.
    """

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "retention", seconds=_SECONDS)

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def remove_before(self, lsn: int) -> int:
        """Removes rows of which all records are before that one, but the last; returns how many.

        A thousand at a time, the oldest first: those that are left are without a gap at any moment.
        """
        removed = 0
        while found := self._session.execute(_REMOVE, {"lsn": lsn}):
            removed += int(found[0][0])
        return removed
