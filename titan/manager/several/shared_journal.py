"""The log in a database that several managers share, as the one that leads appends to it.

A flush is one row. It is durable when the database says so; the files of this manager's own copy
follow behind, and nobody waits for them but whoever reads them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import wal
from titan.journal.errors import JournalFull
from titan.logs import LogLine
from titan.manager.journal import FlushedJournal

if TYPE_CHECKING:
    from titan.journal.appender import Appender
    from titan.journal.rows import Row
    from titan.manager.several.own_copy import Copying

_log = logging.getLogger("titan.journal")

# A row goes over the network as a whole, and whoever waits for its first record waits for all.
ROW_BYTES_MAX: Final = 8 << 20


class _RowWriter:
    """A frame at a time, as a row; see `wal.FrameWriter`."""

    body_bytes_max = ROW_BYTES_MAX

    def __init__(self, appender: Appender, copying: Copying, where: str) -> None:
        self._appender = appender
        self._copying = copying
        self._where = where
        self._staged: Sequence[bytes] = ()
        self._written: Row | None = None
        self._begun: float | None = None
        self.position: wal.Position = appender.position

    @property
    def busy(self) -> bool:
        """Whether a row is to be written."""
        return bool(self._staged)

    def stage(self, payloads: Sequence[bytes]) -> None:
        """Takes the records of the next row."""
        assert not self._staged
        self._staged = payloads

    def push(self) -> wal.Flush:
        """Commits the row. Raises wal.WriteFailed, Deposed, InDoubt."""
        begun = self._begun = time.monotonic()
        try:
            row = self._appender.append(self._staged)
        except JournalFull as error:
            raise wal.WriteFailed(self._where, "insert", str(error)) from error
        finally:
            self._begun = None
        flush = wal.Flush(len(self._staged), len(row.body), time.monotonic() - begun)
        self._staged = ()
        self.position = self._appender.position
        self._written = row
        return flush

    @property
    def waiting_seconds(self) -> float:
        """How long a row has been under way by now; read in any thread."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def maintain(self) -> bool:
        """Whether more is taken: the database has said so last, and the copy keeps up."""
        row, self._written = self._written, None
        if row is not None:
            # Only now, since those who wait for it were told before: they come first.
            self._copying.add(row)
        return self._copying.has_room

    def end(self) -> None:
        """A row needs no mark of an end."""

    def close(self) -> None:
        """Lets the connection go."""
        self._appender.close()


class SharedJournal(FlushedJournal):
    """What the manager that leads appends to."""

    def __init__(self, appender: Appender, copying: Copying, where: str) -> None:
        """`where` names the database, without its password."""
        self._where = where
        self._appender = appender
        self._writer = _RowWriter(appender, copying, where)
        self._flusher = wal.Flusher(where, self._writer, lambda text: _log.warning(LogLine(text)))
        super().__init__(self._flusher)

    @property
    def waiting_seconds(self) -> float:
        """How long the row that is under way has not been confirmed; 0: none is."""
        return self._writer.waiting_seconds

    def cut(self) -> None:
        """A row that is under way is waited for no more: the journal fails. From any thread."""
        self._appender.cut()

    def room_fields(self) -> dict[str, object]:
        """Where it is."""
        return {"journal": self._where}

    def close(self) -> None:
        """Writes what was appended, and stops. Blocks.

        Raises wal.NotFlushed, wal.LogFailed; it is stopped all the same.
        """
        try:
            self._flusher.finish()
            # The thread that failed has told of it, and nobody may be there to hear it any more.
            self._flusher.wait_durable(self._flusher.last_lsn, 0)
        finally:
            self._flusher.close()

    def abandon(self) -> None:
        """Stops without writing another row; one under way is waited for."""
        self._flusher.abandon()
        self._flusher.close()
