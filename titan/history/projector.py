"""Follows the log of a data directory into a database, for ever, and is there again when killed.

What is read is committed some thousand events at a time, and how far that is with it. The slot in
`readers/` moves on behind the commits, so the manager keeps the log from there on, and a snapshot
at or before it: a start takes up the state of that place from the two.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple, TypeVar

import sqlalchemy as sa

import wal
from titan.errors import TitanError
from titan.history.database import HistoryRefused, Unavailable, reason_of
from titan.history.projection import Batch, Projection, all_rows
from titan.history.store import HistoryMoved, Place, Store
from titan.logs import LogLine
from titan.snapshots import SnapshotUnusable, load_snapshot, snapshot_directory
from titan.state.cluster import ClusterState, IllegalEvent
from titan.state.replay import UnknownRecord, replay

_log = logging.getLogger("titan.history")

T = TypeVar("T")

SLOT: Final = "history"
# Some tenths of a second of work, and of rows in memory. A record has 10,000 events at most or so.
BATCH_EVENTS: Final = 10_000
READ_RECORDS: Final = 64
# When there is nothing to read; also what a commit waits for more to come with it, so that a slow
# disk that the log is on as well syncs twice a second for this at most.
POLL_SECONDS: Final = 0.5
# A slot is synced, too.
SLOT_BATCHES: Final = 20
RETRY_SECONDS_MIN: Final = 0.2
RETRY_SECONDS_MAX: Final = 15.0


class LogUnreadable(TitanError):
    """The log or what is in it cannot be read; the text says where."""


class _Standing(NamedTuple):
    """A state, the reader that stands behind it, and whose log it is."""

    state: ClusterState
    reader: wal.Reader
    cluster_id: bytes

    def place(self) -> Place:
        """Where it stands. Only between two reads, all of which was applied."""
        assert self.reader.position.lsn == self.state.lsn
        return Place(self.cluster_id, self.reader.position, self.state.time_us)


class _Gone(Exception):
    """What the history goes on from is not in the log, or not any more."""


class Projector:
    """Follows one log into one database."""

    def __init__(
        self,
        data_directory: Path,
        store: Store,
        *,
        stop: Event,
        on_batch: Callable[[Place], object] = lambda _: None,
    ) -> None:
        """Ends soon after `stop` is set. `on_batch` hears of each commit."""
        self._log_directory = data_directory / "wal"
        self._readers = data_directory / "readers"
        self._snapshots = snapshot_directory(data_directory)
        self._data_directory = data_directory
        self._store = store
        self._stop = stop
        self._on_batch = on_batch
        self._batches = 0

    def run(self, *, until_end: bool = False) -> None:
        """Follows the log until it is to stop, or `until_end` to the end of what is durable.

        Raises HistoryRefused, LogUnreadable, wal.Locked (another one follows this log).
        """
        # The state has no cycles, and all else is little.
        gc.disable()
        try:
            if not self._wait_log(until_end):
                return
            self._readers.mkdir(mode=0o700, exist_ok=True)
            lock = wal.Lock(self._readers / "history.lock")
            try:
                self._try(self._store.migrate)
                while not self._stop.is_set() and not self._follow(until_end):
                    pass
            finally:
                lock.release()
        except (wal.Locked, HistoryRefused):
            raise
        except (wal.WalError, OSError, UnknownRecord, IllegalEvent) as error:
            raise LogUnreadable(f"the log cannot be followed: {error}") from error
        except (sa.exc.SQLAlchemyError, HistoryMoved) as error:
            raise HistoryRefused(f"the history cannot be written: {reason_of(error)}") from error
        finally:
            self._store.close()
            gc.enable()

    def _wait_log(self, until_end: bool) -> bool:
        """Until a manager has begun one; False: it is to stop before."""
        while not self._stop.is_set():
            try:
                wal.Reader(self._log_directory).close()
            except wal.NotALog:
                if until_end:
                    raise
                self._stop.wait(POLL_SECONDS)
            else:
                return True
        return False

    def _follow(self, until_end: bool) -> bool:
        """Follows the log from where the history is; True at the end, False: to be begun anew."""
        place = self._try(self._store.find_place)
        if self._stop.is_set():
            return True
        try:
            standing = self._begin(place) if place is None else self._stand_at(place)
        except _Gone as error:
            standing = self._begin(place)
            _log.warning(
                "the log has not got what the history went on from, and is read from its oldest "
                "snapshot on; of what ended in between the history keeps what it has: %s", error,
            )  # fmt: skip
        with standing.reader:
            try:
                return self._project(standing, until_end)
            except wal.RecordsGone:
                # It was too slow, and its slot was dropped; the next look says so.
                return False

    def _begin(self, found: Place | None) -> _Standing:
        """The oldest state that there is; the history goes on from there."""
        standing = self._stand_at_oldest()
        base, state = standing.place(), standing.state
        if found is not None and found.cluster_id != base.cluster_id:
            raise _another_cluster(found.cluster_id, base.cluster_id)
        # Before anything of it is written: from now on the log stays from there on.
        wal.write_slot(self._readers, SLOT, base.position)
        self._try(lambda: self._store.write_anew(base, all_rows(state)))
        return standing

    def _stand_at_oldest(self) -> _Standing:
        """Where the log begins, or behind the oldest snapshot that it goes on from."""
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

    def _stand_at_first(self) -> _Standing:
        """Before the first record, which says whose log it is."""
        with wal.Reader(self._log_directory, from_lsn=1) as reader:
            while not (records := reader.read(1)):
                if self._stop.wait(POLL_SECONDS):
                    raise LogUnreadable("it is to stop before the log has begun")
            state = ClusterState()
            replay(records, state)
        begun = wal.Reader(self._log_directory, from_lsn=1)
        return _Standing(ClusterState(), begun, state.cluster_id)

    def _load(self, lsn: int) -> _Standing | None:
        """The state of a snapshot; None: it is not usable, or was removed meanwhile."""
        try:
            state, position, _ = load_snapshot(self._data_directory, lsn)
            reader = wal.Reader(self._log_directory, position=position)
        except (SnapshotUnusable, wal.PositionMismatch, wal.RecordsGone) as error:
            _log.warning("a snapshot is passed over: %s", error)
            return None
        return _Standing(state, reader, state.cluster_id)

    def _find_first_lsn(self) -> int:
        return wal.list_segments(self._log_directory)[0].first_lsn

    def _stand_at(self, place: Place) -> _Standing:
        """The state at that place. Raises _Gone."""
        lsn = place.position.lsn
        try:
            # Whether the log has the place, before the long way there.
            wal.Reader(self._log_directory, position=place.position).close()
            standing = self._load_before(lsn)
        except (wal.RecordsGone, wal.PositionMismatch) as error:
            raise _Gone(str(error)) from error
        state, reader, cluster_id = standing
        try:
            while state.lsn < lsn and (records := reader.read(min(READ_RECORDS, lsn - state.lsn))):
                replay(records, state)
            if cluster_id != place.cluster_id:
                raise _another_cluster(place.cluster_id, cluster_id)
            if reader.position != place.position:
                raise _Gone(f"it has another record {lsn}")
        except BaseException:
            reader.close()
            raise
        return standing

    def _load_before(self, lsn: int) -> _Standing:
        """The newest snapshot at or before that record, else the beginning. Raises _Gone."""
        first_lsn = self._find_first_lsn()
        for snapshot_lsn in reversed(wal.find_snapshots(self._snapshots)):
            if first_lsn - 1 <= snapshot_lsn <= lsn:
                standing = self._load(snapshot_lsn)
                if standing is not None:
                    return standing
        if first_lsn > 1:
            raise _Gone(f"no snapshot of record {lsn} or before it is left")
        return self._stand_at_first()

    def _project(self, standing: _Standing, until_end: bool) -> bool:
        state, reader, _ = standing
        projection = Projection(state)
        place = standing.place()
        wal.write_slot(self._readers, SLOT, place.position)
        is_slot_due = False
        end_lsn = reader.find_durable() if until_end else 0
        _log.info(LogLine("the history is followed", lsn=state.lsn, jobs=len(state.jobs)))
        while not self._stop.is_set():
            has_more = self._read(reader, projection)
            if state.lsn > place.position.lsn:
                start, place = place, standing.place()
                self._commit(projection.take_batch(), start, place)
                self._batches += 1
                is_slot_due = True
            if is_slot_due and (not has_more or self._batches % SLOT_BATCHES == 0):
                if not self._stop.is_set():
                    wal.write_slot(self._readers, SLOT, place.position)
                is_slot_due = False
            if not has_more:
                if until_end and state.lsn >= end_lsn:
                    break
                self._stop.wait(POLL_SECONDS)
        return True

    def _read(self, reader: wal.Reader, projection: Projection) -> bool:
        """A batch's worth, if there is as much; whether there may be more at once."""
        while projection.events < BATCH_EVENTS:
            records = reader.read(READ_RECORDS)
            if not records:
                return False
            for lsn, payload in records:
                projection.apply(lsn, payload)
        return True

    def _commit(self, batch: Batch, start: Place, end: Place) -> None:
        self._try(lambda: self._store.write(batch, start, end))
        if not self._stop.is_set():
            self._on_batch(end)

    def _try(self, doing: Callable[[], T]) -> T | None:
        """Again and again while the database does not answer; None: it is to stop meanwhile."""
        wait_seconds = RETRY_SECONDS_MIN
        is_away = False
        while not self._stop.is_set():
            try:
                done = doing()
            except Unavailable as error:
                _log.warning(
                    "the history's database does not take it, trying again in %.1f s: %s",
                    wait_seconds, reason_of(error),
                )  # fmt: skip
                is_away = True
                self._store.close()
                self._stop.wait(wait_seconds)
                wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)
            else:
                if is_away:
                    _log.info("the history's database is there again")
                return done
        return None


def _another_cluster(found: bytes, ours: bytes) -> HistoryRefused:
    return HistoryRefused(
        f"the database has the history of cluster {found.hex()}, and this is {ours.hex()}: "
        "name another database"
    )
