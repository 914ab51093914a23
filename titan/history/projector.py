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
from typing import Final, TypeVar

import sqlalchemy as sa

import wal
from titan.following import (
    HISTORY_SLOT,
    READ_RECORDS,
    LogStates,
    LogUnreadable,
    PlaceGone,
    Standing,
)
from titan.history.database import HistoryRefused, Unavailable, reason_of
from titan.history.projection import Batch, Projection, all_rows
from titan.history.store import HistoryMoved, Place, Store
from titan.logs import LogLine
from titan.state.cluster import IllegalEvent
from titan.state.replay import UnknownRecord

_log = logging.getLogger("titan.history")

T = TypeVar("T")

# Some tenths of a second of work, and of rows in memory. A record has 10,000 events at most or so.
BATCH_EVENTS: Final = 10_000
# When there is nothing to read; also what a commit waits for more to come with it, so that a slow
# disk that the log is on as well syncs twice a second for this at most.
POLL_SECONDS: Final = 0.5
# A slot is synced, too.
SLOT_BATCHES: Final = 20
RETRY_SECONDS_MIN: Final = 0.2
RETRY_SECONDS_MAX: Final = 15.0


class Projector:
    """Follows one log into one database."""

    def __init__(
        self,
        data_directory: Path,
        store: Store,
        *,
        stop: Event,
        wake: Event | None = None,
        on_follow: Callable[[Place], object] = lambda _: None,
        on_batch: Callable[[Place], object] = lambda _: None,
    ) -> None:
        """Ends soon after `stop` is set, and looks for more at once after `wake` is.

        `on_follow` hears from where on the log is followed, `on_batch` of each commit.
        """
        self._states = LogStates(data_directory, stop=stop)
        self._readers = self._states.readers
        self._store = store
        self._stop = stop
        self._wake = wake or stop
        self._on_follow = on_follow
        self._on_batch = on_batch
        self._batches = 0

    def run(self, *, until_end: bool = False) -> None:
        """Follows the log until it is to stop, or `until_end` to the end of what is durable.

        Raises HistoryRefused, LogUnreadable, wal.Locked (another one follows this log).
        """
        # The state has no cycles, and all else is little.
        gc.disable()
        try:
            if not self._states.wait_log(until_end=until_end):
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

    def _follow(self, until_end: bool) -> bool:
        """Follows the log from where the history is; True at the end, False: to be begun anew."""
        place = self._try(self._store.find_place)
        if self._stop.is_set():
            return True
        try:
            standing = self._begin(place) if place is None else self._stand_at(place)
        except PlaceGone as error:
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

    def _begin(self, found: Place | None) -> Standing:
        """The oldest state that there is; the history goes on from there."""
        standing = self._states.stand_at_oldest()
        base, state = _place(standing), standing.state
        if found is not None and found.cluster_id != base.cluster_id:
            raise _another_cluster(found.cluster_id, base.cluster_id)
        # Before anything of it is written: from now on the log stays from there on.
        wal.write_slot(self._readers, HISTORY_SLOT, base.position)
        self._try(lambda: self._store.write_anew(base, all_rows(state)))
        return standing

    def _stand_at(self, place: Place) -> Standing:
        """The state at that place. Raises PlaceGone."""
        standing = self._states.stand_at(place.position)
        if standing.cluster_id != place.cluster_id:
            standing.reader.close()
            raise _another_cluster(place.cluster_id, standing.cluster_id)
        return standing

    def _project(self, standing: Standing, until_end: bool) -> bool:
        state, reader, _ = standing
        projection = Projection(state)
        place = _place(standing)
        wal.write_slot(self._readers, HISTORY_SLOT, place.position)
        is_slot_due = False
        end_lsn = reader.find_durable() if until_end else 0
        self._on_follow(place)
        _log.info(LogLine("the history is followed", lsn=state.lsn, jobs=len(state.jobs)))
        while not self._stop.is_set():
            has_more = self._read(reader, projection)
            if state.lsn > place.position.lsn:
                start, place = place, _place(standing)
                self._commit(projection.take_batch(), start, place)
                self._batches += 1
                is_slot_due = True
            if is_slot_due and (not has_more or self._batches % SLOT_BATCHES == 0):
                if not self._stop.is_set():
                    wal.write_slot(self._readers, HISTORY_SLOT, place.position)
                is_slot_due = False
            if not has_more:
                if until_end and state.lsn >= end_lsn:
                    break
                self._rest()
        return True

    def _rest(self) -> None:
        """Until there is something to read, or may be."""
        if self._wake.wait(POLL_SECONDS) and self._wake is not self._stop:
            # Whatever is told of from now on is seen by a later look than the next one.
            self._wake.clear()

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


def _place(standing: Standing) -> Place:
    """Where it stands. Only between two reads, all of which was applied."""
    assert standing.reader.position.lsn == standing.state.lsn
    return Place(standing.cluster_id, standing.reader.position, standing.state.time_us)


def _another_cluster(found: bytes, ours: bytes) -> HistoryRefused:
    return HistoryRefused(
        f"the database has the history of cluster {found.hex()}, and this is {ours.hex()}: "
        "name another database"
    )
