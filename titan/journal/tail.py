"""Reading the journal along, from any place of it, as a standby does and a leader that begins."""

from __future__ import annotations

from typing import Final

import wal
from titan.journal.database import Database
from titan.journal.rows import PLACE, Row, check, damaged
from titan.journal.schema import CHANNEL, SCHEMA
from titan.journal.session import Session

BYTES_MAX: Final = 8 << 20
_ROWS_MAX: Final = 4096
LISTEN_FIRST: Final = f"LISTEN {CHANNEL}"
"""How the session of who waits for news begins."""

# The sizes are known without reading what is stored beside the table.
_ROWS: Final = f"""
SELECT first_lsn, last_lsn, term, chain, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY first_lsn) AS total_bytes FROM (
        SELECT first_lsn, last_lsn, term, chain, body FROM {SCHEMA}.journal
        WHERE first_lsn > %s ORDER BY first_lsn LIMIT {_ROWS_MAX}
    ) AS next_rows
) AS summed
WHERE total_bytes <= %s OR total_bytes = octet_length(body)
ORDER BY first_lsn
"""
_END: Final = f"""
SELECT meta.log_id, coalesce(last.last_lsn, meta.base_lsn), coalesce(last.chain, meta.base_chain)
FROM {SCHEMA}.meta LEFT JOIN LATERAL (
    SELECT last_lsn, chain FROM {SCHEMA}.journal ORDER BY first_lsn DESC LIMIT 1
) AS last ON true
"""
_FIRST: Final = f"""
SELECT coalesce((SELECT min(first_lsn) FROM {SCHEMA}.journal), meta.base_lsn + 1)
FROM {SCHEMA}.meta
"""
# What the position behind a record is, if a row ends there or the first one begins behind it.
_PLACE: Final = f"""
SELECT meta.log_id, CASE WHEN meta.base_lsn = %(lsn)s THEN meta.base_chain ELSE (
    SELECT chain FROM (
        SELECT last_lsn, chain FROM {SCHEMA}.journal
        WHERE first_lsn <= %(lsn)s ORDER BY first_lsn DESC LIMIT 1
    ) AS nearest WHERE last_lsn = %(lsn)s
) END
FROM {SCHEMA}.meta
"""


class Tail:
    """Reads the rows of one journal. Not thread-safe, but for `close`.

    What a method raises besides is JournalUnavailable or JournalRefused; the next call connects
    anew.
    """

    def __init__(self, database: Database, session: Session | None = None) -> None:
        """`session`: one that others use, too, and that begins with LISTEN_FIRST."""
        self._session = session or Session(database, "tail", on_connect=LISTEN_FIRST)

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def end(self) -> wal.Position:
        """Behind the last row; LSN 0 where there never was one."""
        ((log_id, lsn, chain),) = self._session.execute(_END)
        return wal.Position(bytes(log_id), lsn, chain)

    def first_lsn(self) -> int:
        """The first record that is there, or will be the first."""
        ((lsn,),) = self._session.execute(_FIRST)
        return int(lsn)

    def rows(self, after: wal.Position, bytes_max: int = BYTES_MAX) -> list[Row]:
        """The rows behind that place, of at most so many bytes, but one; none: there are no more.

        They are checked: without gaps, each with its chain CRC. Raises wal.RecordsGone,
        wal.PositionMismatch where the journal has another record at that place or ends before it,
        wal.Damaged.
        """
        found = self._session.execute(_ROWS, (after.lsn, bytes_max))
        rows = [Row(first, last, term, chain, body) for first, last, term, chain, body in found]
        if not rows:
            if self.end() != after:
                self.check_place(after)
            return []
        position, term = after, 0
        for row in rows:
            try:
                if row.term < term:
                    raise damaged(row, f"term {term} or later", f"term {row.term}")
                term = row.term
                position = check(row, position)
            except wal.Damaged:
                # Is it the row, or the place that it was to follow?
                if row is rows[0]:
                    self.check_place(after)
                raise
        return rows

    def check_place(self, position: wal.Position) -> None:
        """Whether the journal has that very place, at the end of a row or before the first one.

        Raises wal.RecordsGone, wal.PositionMismatch.
        """
        ((log_id, chain),) = self._session.execute(_PLACE, {"lsn": position.lsn})
        if bytes(log_id) != position.log_id:
            raise wal.PositionMismatch(
                PLACE, f"log id {position.log_id.hex()}", bytes(log_id).hex()
            )
        if chain == position.chain:
            return
        if chain is not None:
            raise wal.PositionMismatch(
                PLACE, f"chain CRC {position.chain:08x} at record {position.lsn}", f"{chain:08x}"
            )
        first_lsn, end = self.first_lsn(), self.end()
        if position.lsn + 1 < first_lsn:
            raise wal.RecordsGone(PLACE, position.lsn + 1, first_lsn)
        found = (
            f"an end at record {end.lsn}"
            if position.lsn > end.lsn
            else "a row that has it in its middle"
        )
        raise wal.PositionMismatch(PLACE, f"a row that ends with record {position.lsn}", found)

    def wait(self, seconds: float) -> None:
        """Until something was notified: a row, or a lease that is free or taken; or for so long."""
        with self._session.using(seconds + self._session.seconds) as connection:
            for _ in connection.notifies(timeout=seconds, stop_after=1):
                pass
