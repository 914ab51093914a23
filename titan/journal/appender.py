"""Appending to the journal: one row for each flush, and never one of a term that was deposed.

One statement does it, which commits by itself. It holds the lease's row FOR KEY SHARE until it is
committed, so a new term is not begun in the middle of it: either it is in the journal before the
new term's leader reads that to its end, or it finds another term in the lease and writes nothing.
It writes behind one row only, the one that this term knows as the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import wal
from titan.journal.database import Database
from titan.journal.errors import Deposed, InDoubt, JournalFull
from titan.journal.limit import Cutter, is_warning
from titan.journal.rows import Row, encode
from titan.journal.schema import CHANNEL, SCHEMA

if TYPE_CHECKING:
    import psycopg
    from psycopg.errors import Diagnostic

_APPEND: Final = f"""
INSERT INTO {SCHEMA}.journal (first_lsn, last_lsn, term, chain, body)
SELECT %(first_lsn)b::bigint, %(last_lsn)b::bigint, lease.term, %(chain)b::bigint, %(body)b::bytea
FROM {SCHEMA}.lease
WHERE lease.term = %(term)b::bigint AND coalesce(
    (SELECT last.last_lsn = %(before_lsn)b::bigint AND last.chain = %(before_chain)b::bigint
    FROM {SCHEMA}.journal AS last ORDER BY last.first_lsn DESC LIMIT 1),
    (SELECT meta.base_lsn = %(before_lsn)b::bigint AND meta.base_chain = %(before_chain)b::bigint
    FROM {SCHEMA}.meta))
FOR KEY SHARE OF lease
RETURNING pg_notify('{CHANNEL}', '')
"""

# The server has refused it and goes on with the connection: disk full, out of memory or of locks,
# its queue of notifications full because of a session that hears none, a lock that was not to be
# had, a deadlock, a serialization that failed.
_FULL: Final = frozenset(("53100", "53200", "54000", "55P03", "40P01", "40001"))
_UNIQUE_VIOLATION: Final = "23505"


_End = TypeVar("_End", Deposed, InDoubt)


class Appender:
    """What one term appends. Not thread-safe; after Deposed or InDoubt it is of no use any more."""

    def __init__(self, database: Database, term: int, position: wal.Position) -> None:
        """Goes on behind that position. Raises JournalUnavailable, JournalRefused."""
        self.position = position
        self.term = term
        self._database = database
        self._warnings: list[str] = []
        self._end: Deposed | InDoubt | None = None
        self._connection: psycopg.Connection[Any] = database.connect("append")
        self._connection.add_notice_handler(self._note)
        self._cutter = Cutter(self._connection)
        self._cursor = self._connection.cursor(binary=True)

    def append(self, payloads: Sequence[bytes]) -> Row:
        """Returns when the row of these records is durable. Blocks.

        Raises Deposed, InDoubt; JournalFull: the same may be tried again.
        """
        import psycopg  # noqa: PLC0415 - an extra
        from psycopg.types.numeric import Int8  # noqa: PLC0415

        if self._end is not None:
            raise self._end
        row = encode(self.position.lsn + 1, payloads, self.position.chain, self.term)
        # Of one type whatever their size: else each size had a prepared statement of its own.
        parameters = {
            "first_lsn": Int8(row.first_lsn),
            "last_lsn": Int8(row.last_lsn),
            "chain": Int8(row.chain),
            "body": row.body,
            "term": Int8(self.term),
            "before_lsn": Int8(self.position.lsn),
            "before_chain": Int8(self.position.chain),
        }
        self._warnings.clear()
        try:
            self._cursor.execute(_APPEND, parameters, prepare=True)
        except psycopg.Error as error:
            raise self._failure(error) from error
        except BaseException:
            self._end_with(InDoubt(f"the append of record {row.first_lsn} was broken off"))
            raise
        if self._warnings:
            raise self._end_with(InDoubt("; ".join(self._warnings)))
        if self._cursor.rowcount != 1:
            raise self._end_with(Deposed(self._why_none()))
        self.position = wal.Position(self.position.log_id, row.last_lsn, row.chain)
        return row

    def cut(self) -> None:
        """Nothing more is waited for: an append that is under way is InDoubt. From any thread."""
        self._cutter.cut()

    def close(self) -> None:
        """Ends the connection, while no append is under way. Idempotent."""
        self._connection.close()
        self._cutter.close()

    def _failure(self, error: psycopg.Error) -> Deposed | InDoubt | JournalFull:
        state = error.sqlstate
        text = str(self._database.failure(error))
        # An ERROR aborts the statement. What ends a session may have come when it was written.
        is_alive = not self._connection.closed and error.diag.severity_nonlocalized == "ERROR"
        if state in _FULL and is_alive and not self._warnings:
            return JournalFull(text)
        if state == _UNIQUE_VIOLATION and is_alive:
            return self._end_with(Deposed(f"another term has appended: {text}"))
        return self._end_with(InDoubt(text))

    def _end_with(self, end: _End) -> _End:
        self._end = end
        self.close()
        return end

    def _why_none(self) -> str:
        """For people: which of the conditions was not met."""
        import psycopg  # noqa: PLC0415

        with suppress(psycopg.Error):
            found = self._connection.execute(
                f"SELECT term, holder, address FROM {SCHEMA}.lease"
            ).fetchone()
            if found is not None and found[0] != self.term:
                return f"term {found[0]} leads, of {found[2] or found[1] or 'nobody'}"
            return (
                f"the journal does not end with record {self.position.lsn} any more, which this"
                " term has written: the database has lost it, or somebody else writes there"
            )
        return f"term {self.term} does not lead any more"

    def _note(self, notice: Diagnostic) -> None:
        if is_warning(notice):
            self._warnings.append(notice.message_primary or "a warning")
