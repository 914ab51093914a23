"""What of a journal in a database is looked at, as files in a temporary directory.

Whatever reads a manager's files then reads these. It takes no lease and may be done while managers
run. What is fetched was there when it began, and ends with a whole row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

import wal
from titan import events as ev
from titan.journal.database import Database
from titan.journal.reading import RowReader
from titan.journal.rows import Row
from titan.journal.slots import SlotTable
from titan.journal.snapshot_files import fetch_snapshot
from titan.journal.snapshots import SnapshotTable
from titan.state.snapshot import SnapshotError, read_head
from titan.waltools.places import Places
from wal.directory import RESERVE_NAME

# A reserve of the usual size would be much for a directory of temporary files.
_SEGMENT_BYTES: Final = 16 << 20


class RowFault(NamedTuple):
    """What is wrong with a row, or where one is missing."""

    first_lsn: int
    why: str


class JournalFiles:
    """A temporary data directory with a part of a journal. A context manager that removes it."""

    def __init__(self, url: str) -> None:
        """Raises JournalRefused for what is no URL of a database."""
        self._database = Database(url)
        self.name = str(self._database)
        self._undo = ExitStack()
        self._log: wal.Log | None = None
        self.row_faults: list[RowFault] = []
        self.rows = 0
        self.last_term = 0

    def __enter__(self) -> Self:
        # Only this user may look into what may hold a cluster's commands.
        root = self._undo.enter_context(tempfile.TemporaryDirectory(prefix="titan-journal-"))
        self.places = Places.of(Path(root))
        self._reader = RowReader(self._database)
        self._undo.callback(self._reader.close)
        self._snapshots = SnapshotTable(self._database)
        self._undo.callback(self._snapshots.close)
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.abandon()
        self._undo.close()

    def fetch_all(self) -> None:
        """All rows, snapshots and slots. What is wrong with rows is in `row_faults`.

        With a fault the files hold what is sound before it. Raises JournalUnavailable,
        JournalRefused, OSError.
        """
        slots = SlotTable(self._database)
        try:
            found = slots.read()
        finally:
            slots.close()
        positions = [position for position, _ in self._snapshots.list()]
        log = self._begin(self._reader.base())
        for row, fault in self._reader.read_unchecked():
            self.rows += 1
            self.last_term = row.term
            if fault:
                self.row_faults.append(RowFault(row.first_lsn, fault))
            if not self.row_faults:
                self._write(log, row)
        term = self._reader.lease_term()
        if self.row_faults == [] and self.last_term > term:
            why = f"its term {self.last_term} is later than that of the lease, {term}"
            self.row_faults.append(RowFault(log.durable_lsn, why))
        end_lsn = log.durable_lsn
        for position in positions:
            if position.lsn <= end_lsn or self.row_faults:
                self._fetch_snapshot(position)
        for slot in found:
            wal.write_slot(self.places.readers, *slot)
        self._end(log)

    def fetch_range(
        self, *, from_lsn: int, since_us: int | None, with_what_came_before: bool
    ) -> None:
        """Nothing yet but where the rows with these records begin, for `fetch_more`."""
        if with_what_came_before:
            base = self._reader.base()
            for position, _ in self._snapshots.list() if base.lsn else ():
                if position.lsn >= base.lsn and self._fetch_snapshot(position):
                    break
            self._begin(base)
            return
        place = self._reader.place_before(from_lsn)
        if since_us is not None:
            place = max(place, self._place_before_time(since_us), key=lambda each: each.lsn)
        self._begin(place)

    def fetch_more(self) -> bool:
        """The next rows; False: there are no more for now."""
        log = self._log
        assert log is not None
        for rows in self._reader.read(log.position):
            for row in rows:
                self._write(log, row)
            return True
        return False

    def fetch_moment(self, *, lsn: int = 0, time_us: int = 0) -> None:
        """What the state at that moment is made of; neither: that of the last row."""
        position = self._snapshot_before(lsn=lsn, time_us=time_us)
        log = self._begin(position or self._reader.base())
        for rows in self._reader.read(log.position):
            for row in rows:
                self._write(log, row)
                if (lsn and row.last_lsn >= lsn) or (time_us and _last_time_us(row) > time_us):
                    return

    def wait(self, seconds: float) -> None:
        """Until there may be more, or so long."""
        self._reader.wait(seconds)

    def _begin(self, position: wal.Position) -> wal.Log:
        wal.begin(self.places.log, position, segment_bytes=_SEGMENT_BYTES)
        self._log = wal.Log.open(
            self.places.log,
            lock_path=self.places.root / "lock",
            after=position if position.lsn else None,
            segment_bytes=_SEGMENT_BYTES,
        )
        return self._log

    def _write(self, log: wal.Log, row: Row) -> None:
        if not log.write_frame(row.packed()):
            raise OSError(f"{self.places.root}: no room for what is fetched of {self.name}")

    def _end(self, log: wal.Log) -> None:
        """As after a clean stop, and without what only a writer needs."""
        log.close()
        (self.places.log / RESERVE_NAME).unlink(missing_ok=True)

    def _fetch_snapshot(self, position: wal.Position) -> bool:
        """A damaged one is left where it is fetched to, so that it is told of as any other."""
        try:
            fetch_snapshot(self._snapshots, self.places.snapshots, position, is_damaged_kept=True)
        except (KeyError, wal.Damaged, wal.NotALog):
            return False
        return True

    def _snapshot_before(self, *, lsn: int, time_us: int) -> wal.Position | None:
        """The newest at or before that moment that can be used, fetched."""
        base_lsn = self._reader.base().lsn
        for position, _ in reversed(self._snapshots.list()):
            if position.lsn < base_lsn:
                return None
            if (lsn and position.lsn > lsn) or (time_us and self._time_of(position) > time_us):
                continue
            if self._fetch_snapshot(position):
                return position
            (self.places.snapshots / wal.snapshot_name(position.lsn)).unlink(missing_ok=True)
        return None

    def _time_of(self, position: wal.Position) -> int:
        """The time of a snapshot, by its first block; of one that can't be read, never."""
        try:
            start = next(self._snapshots.get(position.lsn), b"")
            return read_head(wal.first_block(start)).time_us
        except (KeyError, wal.Damaged, SnapshotError):
            return 1 << 63

    def _place_before_time(self, time_us: int) -> wal.Position:
        """The end of some row before which nothing is as late as that, near to it."""
        low, high = self._reader.base(), self._reader.end().lsn
        while True:
            place = self._reader.place_before((low.lsn + high) // 2 + 1)
            if place.lsn <= low.lsn:
                return low
            row = self._reader.row_behind(place)
            if row is None or _first_time_us(row) >= time_us:
                high = place.lsn
            else:
                low = place


def _records(row: Row) -> Iterator[wal.Record]:
    for records in row.records():
        yield from records


def _first_time_us(row: Row) -> int:
    return ev.decode_record(next(_records(row)).payload)[0]


def _last_time_us(row: Row) -> int:
    """Of the last record; the state of a time ends before the first one that is later."""
    payload = b""
    for records in row.records():
        payload = records[-1].payload
    return ev.decode_record(payload)[0]
