"""A state at a place of a log that others write, and a reader that goes on from there.

For processes that follow the log from where they were, for as long as it grows: what stands in
`readers/` keeps the log from their place on, and a snapshot at or before it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

import wal
from titan.errors import TitanError
from titan.snapshots import SnapshotUnusable, load_snapshot, snapshot_directory
from titan.state.cluster import ClusterState
from titan.state.replay import replay

_log = logging.getLogger("titan.reader")

# Whose places stand in `readers/`, by the names of their slots.
HISTORY_SLOT: Final = "history"
TRACES_SLOT: Final = "traces"
READ_RECORDS: Final = 64
# When there is nothing to read.
POLL_SECONDS: Final = 0.5


class LogUnreadable(TitanError):
    """The log or what is in it cannot be read; the text says where."""


class PlaceGone(Exception):
    """The place to go on from is not in the log, or not any more."""


class Standing(NamedTuple):
    """A state, the reader that stands behind it, and whose log it is."""

    state: ClusterState
    reader: wal.Reader
    cluster_id: bytes


class LogStates:
    """The states of one data directory's log. What a method raises besides is a wal.WalError."""

    def __init__(self, data_directory: Path, *, stop: Event) -> None:
        """Nothing is waited for once `stop` is set."""
        self.log_directory = data_directory / "wal"
        self.readers = data_directory / "readers"
        self._data_directory = data_directory
        self._snapshots = snapshot_directory(data_directory)
        self._stop = stop

    def wait_log(self, *, until_end: bool = False) -> bool:
        """Until a manager has begun one; False: it is to stop before.

        With `until_end` it has to be there: raises wal.NotALog.
        """
        while not self._stop.is_set():
            try:
                wal.Reader(self.log_directory).close()
            except wal.NotALog:
                if until_end:
                    raise
                self._stop.wait(POLL_SECONDS)
            else:
                return True
        return False

    def stand_at_oldest(self) -> Standing:
        """Where the log begins, or behind the oldest snapshot that it goes on from.

        Raises LogUnreadable.
        """
        while (first_lsn := self._find_first_lsn()) > 1:
            for lsn in wal.find_snapshots(self._snapshots):
                standing = self._load(lsn) if lsn + 1 >= first_lsn else None
                if standing is not None:
                    return standing
            if self._find_first_lsn() == first_lsn:
                raise LogUnreadable(
                    f"the log begins with record {first_lsn}, and no snapshot before it is usable"
                )
        return self._stand_at_first()

    def stand_at(self, position: wal.Position) -> Standing:
        """The state at that place. Raises PlaceGone, LogUnreadable."""
        lsn = position.lsn
        try:
            # Whether the log has the place, before the long way there.
            wal.Reader(self.log_directory, position=position).close()
            standing = self._load_before(lsn)
        except (wal.RecordsGone, wal.PositionMismatch) as error:
            raise PlaceGone(str(error)) from error
        state, reader, _ = standing
        try:
            while state.lsn < lsn and (records := reader.read(min(READ_RECORDS, lsn - state.lsn))):
                replay(records, state)
            if reader.position != position:
                raise PlaceGone(f"it has another record {lsn}")
        except BaseException:
            reader.close()
            raise
        return standing

    def _stand_at_first(self) -> Standing:
        """Before the first record, which says whose log it is."""
        with wal.Reader(self.log_directory, from_lsn=1) as reader:
            while not (records := reader.read(1)):
                if self._stop.wait(POLL_SECONDS):
                    raise LogUnreadable("it is to stop before the log has begun")
            state = ClusterState()
            replay(records, state)
        begun = wal.Reader(self.log_directory, from_lsn=1)
        return Standing(ClusterState(), begun, state.cluster_id)

    def _load(self, lsn: int) -> Standing | None:
        """The state of a snapshot; None: it is not usable, or was removed meanwhile."""
        try:
            state, position, _ = load_snapshot(self._data_directory, lsn)
            reader = wal.Reader(self.log_directory, position=position)
        except (SnapshotUnusable, wal.PositionMismatch, wal.RecordsGone) as error:
            _log.warning("a snapshot is passed over: %s", error)
            return None
        return Standing(state, reader, state.cluster_id)

    def _load_before(self, lsn: int) -> Standing:
        """The newest snapshot at or before that record, else the beginning. Raises PlaceGone."""
        first_lsn = self._find_first_lsn()
        for snapshot_lsn in reversed(wal.find_snapshots(self._snapshots)):
            if first_lsn - 1 <= snapshot_lsn <= lsn:
                standing = self._load(snapshot_lsn)
                if standing is not None:
                    return standing
        if first_lsn > 1:
            raise PlaceGone(f"no snapshot of record {lsn} or before it is left")
        return self._stand_at_first()

    def _find_first_lsn(self) -> int:
        return wal.list_segments(self.log_directory)[0].first_lsn
