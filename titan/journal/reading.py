"""Reading a journal from any place to an end that was there: for copies, and for who looks into it.

A manager that follows the journal uses `tail.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import wal
from titan.journal.database import Database
from titan.journal.rows import Row, check
from titan.journal.schema import SCHEMA
from titan.journal.session import Session
from titan.journal.tail import BYTES_MAX, Tail

_BASE: Final = f"SELECT log_id, base_lsn, base_chain FROM {SCHEMA}.meta"
_PLACE_BEFORE: Final = f"""
SELECT meta.log_id, coalesce(nearest.last_lsn, meta.base_lsn), coalesce(nearest.chain, base_chain)
FROM {SCHEMA}.meta LEFT JOIN LATERAL (
    SELECT last_lsn, chain FROM {SCHEMA}.journal
    WHERE first_lsn < %(lsn)s AND last_lsn < %(lsn)s ORDER BY first_lsn DESC LIMIT 1
) AS nearest ON true
"""

_ROWS: Final = f"""
SELECT first_lsn, last_lsn, term, chain, body FROM {SCHEMA}.journal
WHERE first_lsn > %s AND first_lsn <= %s ORDER BY first_lsn LIMIT 64
"""


class RowReader:
    """The rows of one journal. Not thread-safe.

    What a method raises besides is JournalUnavailable or JournalRefused.
    """

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "reader")
        self._tail = Tail(database)

    def close(self) -> None:
        """Ends the connections. Idempotent."""
        self._session.close()
        self._tail.close()

    def base(self) -> wal.Position:
        """The position before the first row that is kept."""
        ((log_id, lsn, chain),) = self._session.execute(_BASE)
        return wal.Position(bytes(log_id), lsn, chain)

    def end(self) -> wal.Position:
        """Behind the last row."""
        return self._tail.end()

    def check_place(self, position: wal.Position) -> None:
        """Raises wal.RecordsGone, wal.PositionMismatch unless a row ends there with it."""
        self._tail.check_place(position)

    def place_before(self, lsn: int) -> wal.Position:
        """The last end of a row before that record, or the position before the first row."""
        ((log_id, found, chain),) = self._session.execute(_PLACE_BEFORE, {"lsn": lsn})
        return wal.Position(bytes(log_id), found, chain)

    def row_behind(self, place: wal.Position) -> Row | None:
        """The row that follows the place; None: there is none. Raises what `Tail.rows` does."""
        rows = self._tail.rows(place, 1)
        return rows[0] if rows else None

    def wait(self, seconds: float) -> None:
        """Until there may be another row, or so long."""
        self._tail.wait(seconds)

    def read_unchecked(self) -> Iterator[tuple[Row, str]]:
        """Every row that is there by now, and what is wrong with it, or before it; "": nothing.

        Behind a fault it goes on with what the row says of itself.
        """
        position, end_lsn, term = self.base(), self.end().lsn, 0
        while True:
            rows = [Row(*each) for each in self._session.execute(_ROWS, (position.lsn, end_lsn))]
            if not rows:
                return
            for row in rows:
                fault = ""
                try:
                    check(row, position)
                except wal.Damaged as error:
                    fault = f"expected {error.expected}, found {error.found}"
                if row.term < term and not fault:
                    fault = f"expected term {term} or later, found term {row.term}"
                yield row, fault
                term = max(term, row.term)
                position = wal.Position(position.log_id, row.last_lsn, row.chain)

    def lease_term(self) -> int:
        """The term that leads, or led last."""
        ((term,),) = self._session.execute(f"SELECT term FROM {SCHEMA}.lease")
        return int(term)

    def read(
        self, after: wal.Position, end_lsn: int | None = None, *, bytes_max: int = BYTES_MAX
    ) -> Iterator[list[Row]]:
        """The rows behind a place, to the one with record `end_lsn`, or to the last one of now.

        Raises what `Tail.rows` does.
        """
        if end_lsn is None:
            end_lsn = self.end().lsn
        while after.lsn < end_lsn:
            rows = [row for row in self._tail.rows(after, bytes_max) if row.first_lsn <= end_lsn]
            if not rows:
                return
            yield rows
            after = wal.Position(after.log_id, rows[-1].last_lsn, rows[-1].chain)
