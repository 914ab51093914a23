"""A journal in a database as the place that a log is copied from, or to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import wal
from titan.errors import TitanError
from titan.journal.database import Database
from titan.journal.errors import JournalRefused
from titan.journal.lease import LeaseTable
from titan.journal.reading import RowReader
from titan.journal.schema import SCHEMA
from titan.journal.session import Session
from titan.journal.slots import SlotTable
from titan.journal.snapshots import SnapshotTable
from titan.waltools.copy_ends import CopyRefused

# Who leads while a copy is not whole, so that no manager does: the next copying takes it over.
HOLDER: Final = "titan journal copy"
_UNTIL_IT_IS_WHOLE_SECONDS: Final = 100 * 366 * 86_400.0
_SOURCE_SECONDS: Final = 60.0
_STATEMENT_SECONDS: Final = 120.0

_ADOPT: Final = f"""
UPDATE {SCHEMA}.meta SET log_id = %s, base_lsn = %s, base_chain = %s
WHERE base_lsn = 0 AND NOT EXISTS (SELECT FROM {SCHEMA}.journal)
    AND NOT EXISTS (SELECT FROM {SCHEMA}.snapshot)
RETURNING log_id
"""

_TAKE_OVER: Final = f"""
UPDATE {SCHEMA}.lease SET term = term + 1 WHERE holder = %s AND term = %s RETURNING term
"""


class _Journal:
    """What source and target have in common: the tables, and the lease, which is held."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.name = str(self.database)
        self.lease = LeaseTable(self.database)
        self.reader = RowReader(self.database)
        self.snapshot_table = SnapshotTable(self.database)
        self.slot_table = SlotTable(self.database)
        self.term = 0

    def take_lease(self, holder: str, seconds: float) -> None:
        """Raises CopyRefused where a manager, or another copying, has it."""
        term = self.lease.try_take(holder, "", seconds)
        if term is None:
            found = self.lease.read()
            raise CopyRefused(
                f"the journal in {self.name} is led by {found.address or found.holder}, for "
                f"{found.seconds_left:.0f} s more at least: stop all managers first"
            )
        self.term = term

    def release(self) -> None:
        """Lets the lease go, so that managers can lead."""
        term, self.term = self.term, 0
        if term:
            self.lease.release(term)

    def close(self) -> None:
        """Ends all connections."""
        for each in (self.lease, self.reader, self.snapshot_table, self.slot_table):
            each.close()


class DatabaseSource(_Journal):
    """See `copy_ends.Source`."""

    def __init__(self, url: str) -> None:
        """Takes the lease. Raises CopyRefused, JournalUnavailable, JournalRefused."""
        super().__init__(url)
        try:
            # Of a process of its own: another copying that reads here may not take it away.
            self.take_lease(f"{HOLDER} on {socket.gethostname()}, {os.getpid()}", _SOURCE_SECONDS)
            self.base, self.end = self.reader.base(), self.reader.end()
        except BaseException:
            self.close()
            raise

    def frames(self, after: wal.Position) -> Iterator[wal.PackedFrame]:
        """Those behind that place. Raises CopyRefused."""
        for rows in self.reader.read(after, self.end.lsn):
            self._keep_lease()
            for row in rows:
                yield row.packed()

    def check_place(self, position: wal.Position) -> None:
        """Raises wal.RecordsGone, wal.PositionMismatch."""
        self.reader.check_place(position)

    def snapshots(self) -> list[int]:
        """The LSNs of the whole ones."""
        return [position.lsn for position, _ in self.snapshot_table.list()]

    def check_snapshot(self, lsn: int) -> wal.Position | None:
        """Its position; what it holds is looked at when it is written."""
        there = {position.lsn: position for position, _ in self.snapshot_table.list()}
        return there.get(lsn)

    def snapshot(self, position: wal.Position) -> Iterator[bytes]:
        """The bytes of the file."""
        for chunk in self.snapshot_table.get(position.lsn):
            self._keep_lease()
            yield chunk

    def slots(self) -> list[wal.Slot]:
        """Where readers are."""
        return self.slot_table.read()

    def close(self) -> None:
        """Lets the lease go, too; if that can't be, it ends by itself."""
        with suppress(TitanError):
            self.release()
        super().close()

    def _keep_lease(self) -> None:
        if not self.lease.renew(self.term, _SOURCE_SECONDS, ""):
            raise CopyRefused(f"another one leads the journal in {self.name} by now")


class DatabaseTarget(_Journal):
    """See `copy_ends.Target`. Until it is finished its lease is held, so no manager leads there."""

    def __init__(self, url: str) -> None:
        """Takes up what is there. Raises CopyRefused, JournalUnavailable, JournalRefused."""
        super().__init__(url)
        self._session = Session(self.database, "copy", seconds=_STATEMENT_SECONDS)
        self.end: wal.Position | None = None
        self._why_not: JournalRefused | None = None
        self._is_partial = False
        try:
            try:
                found = self.reader.end()
            except JournalRefused as error:
                # There is none, most likely. Else none can be made, either.
                self._why_not = error
                return
            self._take()
            is_empty = found.lsn == 0 and not self.snapshot_table.list()
            self.end = None if is_empty else found
        except BaseException:
            self.close()
            raise

    def begin(self, base: wal.Position, origin: str) -> None:
        """An empty journal with the log's id, or the one that is there given it."""
        if self._why_not is not None:
            try:
                self.database.create(base)
            except JournalRefused as error:
                raise self._why_not from error
            self._take()
            self._is_partial = True
            self.end = base
            return
        self._is_partial = True
        if not self._session.execute(_ADOPT, base):
            raise CopyRefused(f"the journal in {self.name} is not empty any more")
        self.database.note_log(base.log_id)
        self.end = base

    def resume(self, origin: str) -> None:
        """The lease says it already."""

    def add(self, frames: Sequence[wal.PackedFrame]) -> None:
        """A row for each, all in one transaction, which another term's leader keeps from being."""
        end = self.end
        assert end is not None
        self._is_partial = True
        with self._session.using() as connection, connection.transaction():
            found = connection.execute(
                f"SELECT term FROM {SCHEMA}.lease WHERE term = %s FOR KEY SHARE", (self.term,)
            ).fetchone()
            if found is None:
                raise CopyRefused(f"another one leads the journal in {self.name} by now")
            with connection.cursor().copy(
                f"COPY {SCHEMA}.journal (first_lsn, last_lsn, term, chain, body)"
                " FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["int8", "int8", "int8", "int8", "bytea"])
                for frame in frames:
                    copy.write_row(
                        (frame.first_lsn, frame.last_lsn, self.term, frame.chain, frame.body)
                    )
        self.end = wal.Position(end.log_id, frames[-1].last_lsn, frames[-1].chain)

    def snapshots(self) -> list[int]:
        """The LSNs of the whole ones."""
        return [position.lsn for position, _ in self.snapshot_table.list()]

    def put_snapshot(self, position: wal.Position, chunks: Iterator[bytes]) -> bool:
        """Adds one as it is."""
        try:
            self.snapshot_table.put(position, chunks)
        except wal.Damaged:
            return False
        return True

    def slots(self) -> list[wal.Slot]:
        """Where readers are by now."""
        return self.slot_table.read()

    def put_slot(self, slot: wal.Slot) -> None:
        """Makes or moves one."""
        self.slot_table.write(*slot)

    def finish(self) -> None:
        """Lets the lease go. Raises CopyRefused where what is there is not what was copied."""
        if self.reader.end() != self.end:
            raise CopyRefused(f"somebody else has written to the journal in {self.name} meanwhile")
        self.release()

    def close(self) -> None:
        """Lets the lease go only where nothing was changed yet."""
        if not self._is_partial:
            with suppress(TitanError):
                self.release()
        self._session.close()
        super().close()

    def _take(self) -> None:
        self._take_alone()
        found = self.lease.read()
        self._is_partial = found.seconds_left > 0 and found.holder == HOLDER
        if self._is_partial and self._session.execute(_TAKE_OVER, (HOLDER, found.term)):
            # At no moment is it free: a manager would lead what is not whole.
            self.term = found.term + 1
        else:
            self.take_lease(HOLDER, _UNTIL_IT_IS_WHOLE_SECONDS)

    def _take_alone(self) -> None:
        """Only one copying at a time writes there: it ends with the connection."""
        with self._session.using() as connection:
            found = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (HOLDER,)
            ).fetchone()
        if found is None or not found[0]:
            raise CopyRefused(f"another `titan journal copy` writes to {self.name}")
