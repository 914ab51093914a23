"""Appending to the journal: one row for each flush, and never one of a term that was deposed.

One statement does it, which commits by itself. It holds the lease's row FOR KEY SHARE until it is
committed, so a new term is not begun in the middle of it: either it is in the journal before the
new term's leader reads that to its end, or it finds another term in the lease and writes nothing.
It writes behind one row only, the one that this term knows as the last.
"""

from __future__ import annotations

import struct
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
    from psycopg.pq.abc import PGresult

# first and last LSN, chain CRC, body, term; LSN and chain CRC of the row before.
_APPEND: Final = f"""
INSERT INTO {SCHEMA}.journal (first_lsn, last_lsn, term, chain, body)
SELECT $1, $2, lease.term, $3, $4
FROM {SCHEMA}.lease
WHERE lease.term = $5 AND coalesce(
    (SELECT last.last_lsn = $6 AND last.chain = $7
    FROM {SCHEMA}.journal AS last ORDER BY last.first_lsn DESC LIMIT 1),
    (SELECT meta.base_lsn = $6 AND meta.base_chain = $7 FROM {SCHEMA}.meta))
FOR KEY SHARE OF lease
RETURNING pg_notify('{CHANNEL}', '')
"""
_NAME: Final = b"titan_append"
_BIGINT: Final = 20
_BYTEA: Final = 17
_TYPES: Final = (_BIGINT, _BIGINT, _BIGINT, _BYTEA, _BIGINT, _BIGINT, _BIGINT)
_ALL_BINARY: Final = (1,) * len(_TYPES)
_pack_bigint: Final = struct.Struct(">q").pack

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
        self._is_prepared = False

    def append(self, payloads: Sequence[bytes]) -> Row:
        """Returns when the row of these records is durable. Blocks.

        Raises Deposed, InDoubt; JournalFull: the same may be tried again.
        """
        import psycopg  # noqa: PLC0415 - an extra

        if self._end is not None:
            raise self._end
        row = encode(self.position.lsn + 1, payloads, self.position.chain, self.term)
        self._warnings.clear()
        try:
            rows = self._insert(row)
        except psycopg.Error as error:
            raise self._failure(error) from error
        except BaseException:
            self._end_with(InDoubt(f"the append of record {row.first_lsn} was broken off"))
            raise
        if self._warnings:
            raise self._end_with(InDoubt("; ".join(self._warnings)))
        if rows != 1:
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

    def _insert(self, row: Row) -> int | None:
        """How many rows the statement has written: 1 or none. Raises psycopg.Error."""
        # By libpq, which waits without the interpreter's lock until the answer is there. A cursor
        # takes that lock several times on the way, each time from a loop that is busy.
        connection = self._connection.pgconn
        if not self._is_prepared:
            self._checked(connection.prepare(_NAME, _APPEND.encode(), _TYPES))
            self._is_prepared = True
        values = (
            *map(_pack_bigint, (row.first_lsn, row.last_lsn, row.chain)),
            row.body,
            *map(_pack_bigint, (self.term, self.position.lsn, self.position.chain)),
        )
        done = connection.exec_prepared(_NAME, values, _ALL_BINARY, result_format=1)
        return self._checked(done).command_tuples

    def _checked(self, result: PGresult) -> PGresult:
        from psycopg.errors import error_from_result  # noqa: PLC0415
        from psycopg.pq import ExecStatus  # noqa: PLC0415

        if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            return result
        raise error_from_result(result, self._connection.info.encoding)

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
