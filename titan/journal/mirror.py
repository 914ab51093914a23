"""A manager's own copy of a journal: the same frames, in files of its own.

Whatever reads the log (snapshots, lookback, history, `titan wal`) reads the files of its own
manager, whether the log is only there or is durable in a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import wal

if TYPE_CHECKING:
    from titan.journal.rows import Row


class Mirror:
    """The files, as rows are added to them. Used by one thread at a time, but for what it shows."""

    def __init__(self, log: wal.Log) -> None:
        """Takes over a log that was not started."""
        self._log = log

    @property
    def position(self) -> wal.Position:
        """The last record in it, durably. May be read in any thread, as what follows."""
        return self._log.position

    @property
    def room(self) -> bool:
        """Whether its disk takes more, and the next segment is in reserve."""
        return self._log.room

    @property
    def last_segment_bytes(self) -> int:
        """How much of its newest segment is in use."""
        return self._log.last_segment_bytes

    def add(self, row: Row) -> bool:
        """Makes the next row durable in it, as one frame with the same chain CRC.

        The last one again changes nothing. False: the disk takes no more for now, and the same row
        is to be added again. Blocks for a write and a sync. Raises wal.PositionMismatch (it is not
        the next row, or follows another history), ValueError (it is no row), RuntimeError (another
        is still to be added), wal.LogFailed, wal.LogClosed. O(bytes).
        """
        position, last_lsn = self._log.position, self._log.last_lsn
        if (row.last_lsn, row.chain) == (position.lsn, position.chain):
            return True
        if row.last_lsn == last_lsn > position.lsn:
            return self._log.flush()
        return self._log.write_frame(row.packed())

    def look_for_room(self) -> bool:
        """Looks again, as nothing else does while no row comes, if its disk has room; see `room`.

        Writes a row that was refused before. Blocks. Raises wal.LogFailed, wal.LogClosed.
        """
        self._log.flush()
        return self._log.room

    def close(self) -> None:
        """Ends it cleanly and lets the lock go. Idempotent.

        Raises wal.NotFlushed, wal.LogFailed.
        """
        self._log.close()

    def abandon(self) -> None:
        """Lets it go as it is, and the lock. Idempotent."""
        self._log.abandon()
