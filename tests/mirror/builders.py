"""Journals with a known history, and what is in data directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import wal
from tests.waltools.builders import history
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.lease import LeaseTable
from titan.journal.retention import RetentionTable
from titan.journal.slots import SlotTable
from titan.journal.snapshot_files import snapshot_bytes
from titan.journal.snapshots import SnapshotTable
from titan.journal.tail import Tail
from titan.manager.recovery import recover
from titan.snapshots import snapshot_directory, take_snapshot
from titan.state import ClusterState, digest
from titan.state.replay import replay

SEGMENT_BYTES: Final = 6 << 10
Frame = tuple[int, int, int, bytes]


class Store:
    """A journal in a database, and all that is done to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)
        self.tail = Tail(self.database)
        self.lease = LeaseTable(self.database)
        self.snapshots = SnapshotTable(self.database)
        self.slots = SlotTable(self.database)
        self.retention = RetentionTable(self.database)
        self.written = 0

    def close(self) -> None:
        """Ends all connections."""
        for each in (self.tail, self.lease, self.snapshots, self.slots, self.retention):
            each.close()

    def append(self, payloads: Sequence[bytes], *, row_records: int = 3) -> None:
        """Adds records in a term of their own, a few to a row."""
        term = self.lease.try_take("the tests", "", 60)
        assert term is not None
        appender = Appender(self.database, term, self.tail.end())
        for start in range(0, len(payloads), row_records):
            appender.append(payloads[start : start + row_records])
        appender.close()
        self.lease.release(term)

    def append_history(self, records: int, *, row_records: int = 3) -> None:
        """The next so many records of a cluster's history."""
        end = self.tail.end().lsn
        self.append(history(end + records)[end:], row_records=row_records)

    def frames(self) -> list[Frame]:
        """Its rows as frames."""
        position = self.base()
        frames = []
        while rows := self.tail.rows(position):
            frames += [(row.first_lsn, row.last_lsn, row.chain, row.body) for row in rows]
            position = wal.Position(position.log_id, rows[-1].last_lsn, rows[-1].chain)
        return frames

    def base(self) -> wal.Position:
        """The position before its first row."""
        with self.database.connect("tests") as connection:
            found = connection.execute(
                "SELECT log_id, base_lsn, base_chain FROM titan_journal.meta"
            ).fetchone()
            assert found is not None
            return wal.Position(bytes(found[0]), found[1], found[2])

    def execute(self, statement: str, *parameters: object) -> int:
        """Something that nobody does; returns how many rows it concerned."""
        with self.database.connect("tests") as connection:
            return connection.execute(statement, parameters).rowcount

    def lose_rows_after(self, lsn: int) -> None:
        """As a failover to a server that has not got them does."""
        assert self.execute("DELETE FROM titan_journal.journal WHERE first_lsn > %s", lsn)

    def send_snapshots(self, directory: Path) -> list[int]:
        """Brings those of a data directory into it; returns which."""
        lsns = wal.find_snapshots(snapshot_directory(directory))
        for lsn in lsns:
            place = snapshot_directory(directory)
            self.snapshots.put(wal.check_snapshot(place, lsn), snapshot_bytes(place, lsn))
        return lsns


def frames_of(directory: Path) -> list[Frame]:
    """Those in a data directory's log, from the first one that is kept."""
    first = wal.list_segments(directory / "wal")[0].first_lsn
    with wal.Reader(directory / "wal") as reader:
        before = reader.position
    log = wal.Log.open(
        directory / "wal",
        lock_path=directory / "lock",
        after=before if first > 1 else None,
        segment_bytes=SEGMENT_BYTES,
    )
    try:
        return [
            (frame.first_lsn, frame.last_lsn, frame.chain, frame.body)
            for frame in log.frames(first - 1)
        ]
    finally:
        log.abandon()


def digest_of(directory: Path) -> tuple[int, str]:
    """The state that a manager starts with there, by its LSN and digest."""
    found = recover(directory, segment_bytes=SEGMENT_BYTES)
    found.log.abandon()
    return found.state.lsn, digest(found.state)


def state_of(records: int) -> tuple[int, str]:
    """The same of the state behind so many records of the history, as it is without any copy."""
    state = ClusterState()
    replay((wal.Record(lsn, each) for lsn, each in enumerate(history(records), 1)), state)
    return state.lsn, digest(state)


def snapshot(directory: Path) -> int:
    """Takes one at the end of a directory's log; returns where."""
    taken = take_snapshot(directory, _unusable, left_free_bytes=0)
    assert taken is not None
    return taken.lsn


def _unusable(error: Exception) -> None:
    raise error
