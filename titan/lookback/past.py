"""The states of the cluster as they stood at moments of the past.

A state is made of the newest snapshot at or before the moment and the log from there on.
A few are kept: the next question is mostly about the same moment, or one not far after it.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import wal
from titan import events as ev
from titan.errors import OutOfRange, TitanError
from titan.snapshots import SnapshotUnusable, load_head, load_snapshot, snapshot_directory
from titan.state.cluster import ClusterState, IllegalEvent
from titan.state.replay import UnknownRecord, replay
from titan.state.snapshot import SnapshotHead

_log = logging.getLogger("titan.lookback")

T = TypeVar("T")

# Each may take as much memory as the manager.
STATES_KEPT: Final = 3
READ_RECORDS: Final = 4_096
# A user's clock may be ahead of this one by so much and "now" not be the future.
CLOCKS_APART_US: Final = 5_000_000


class PastUnreadable(TitanError):
    """The log or what is in it cannot be read; the text says where."""


class Mark(NamedTuple):
    """A record and its time."""

    lsn: int
    time_us: int

    def __str__(self) -> str:
        local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time_us / 1e6))
        return f"LSN {self.lsn} ({local})"


@dataclass(eq=False)
class _Standing:
    """A state, and where in the log it stands."""

    state: ClusterState
    reader: wal.Reader | None
    """Behind the state's record; None when something follows it and was read."""
    next_time_us: int = 0
    """The time of the record after it; 0: there was none when it was looked for."""

    def covers(self, time_us: int) -> bool:
        """Whether it is the state of that time."""
        return self.state.time_us <= time_us < self.next_time_us

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None


class Past:
    """States of the past of one data directory, for one thread."""

    def __init__(
        self, data_directory: Path, *, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        """Reads nothing yet."""
        self.log_directory = data_directory / "wal"
        self._data_directory = data_directory
        self._snapshots = snapshot_directory(data_directory)
        self._now_us = now_us
        # The one asked about last is the last.
        self._kept: list[_Standing] = []
        self._heads: dict[int, SnapshotHead | None] = {}
        self._tail: wal.Reader | None = None
        self._end = Mark(0, 0)

    def close(self) -> None:
        """Closes the files. Idempotent."""
        for standing in self._kept:
            standing.close()
        self._kept.clear()
        self._close_tail()

    def state_at(self, *, lsn: int = 0, time_us: int = 0) -> ClusterState:
        """The state after that record, or after all up to that time; to be read only.

        Good until the next call. Raises OutOfRange, PastUnreadable.
        """
        return self.read(lambda: self._state_at(lsn, time_us))

    def newest(self) -> ClusterState:
        """The state after the last durable record. Raises as `state_at`."""
        return self.state_at(lsn=self.read(self.find_end).lsn)

    def read(self, reading: Callable[[], T]) -> T:
        """What it returns; once more if old segments were removed under its hands.

        Raises PastUnreadable for what it found in the log.
        """
        try:
            try:
                return reading()
            except wal.RecordsGone:
                return reading()
        except (wal.WalError, OSError, UnknownRecord, IllegalEvent, ev.EventError) as error:
            raise PastUnreadable(f"the past cannot be read: {error}") from error

    def find_kept_with_end_of(self, job_id: int) -> ClusterState | None:
        """A state at hand in which that job has ended and is not forgotten."""
        for standing in reversed(self._kept):
            if _has_ended(standing.state, job_id):
                return self._asked(standing)
        return None

    def state_with_end_of(self, job_id: int, forgotten_lsn: int) -> ClusterState:
        """Some state in which that job has ended and is not forgotten: the nearest to make.

        `forgotten_lsn` is the record by which it was forgotten. Raises as `state_at`.
        """
        return self.read(lambda: self._state_with_end_of(job_id, forgotten_lsn))

    def state_before(self, lsn: int, comes: Callable[[ev.Event], bool]) -> tuple[ClusterState, int]:
        """The state just before the first such event of that record, and the record's time.

        Raises as `state_at`.
        """
        return self.read(lambda: self._state_before(lsn, comes))

    def find_range(self) -> tuple[Mark, Mark]:
        """The oldest moment that can be asked about, and the last. Raises as `state_at`."""
        return self.read(lambda: (self._find_oldest(), self.find_end()))

    def find_end(self) -> Mark:
        """The last durable record. Costs what was appended since it was asked for last."""
        firsts = self.list_segments()
        if self._tail is not None and firsts[-1] > self._end.lsn + 1:
            self._close_tail()
        if self._tail is None:
            self._tail = wal.Reader(self.log_directory, from_lsn=firsts[-1])
        try:
            self._read_end(self._tail)
        except BaseException:
            # It would refuse for ever what may be there the next time.
            self._close_tail()
            raise
        if self._end.lsn < firsts[-1] - 1:
            # Nothing in the last segment counts yet: what it follows is the last record.
            if len(firsts) > 1:
                with wal.Reader(self.log_directory, from_lsn=firsts[-2]) as reader:
                    self._read_end(reader)
            else:
                self._end = self._find_oldest()
        if not self._end.lsn:
            raise OutOfRange(f"the log in {self.log_directory} has no record yet")
        return self._end

    def list_segments(self) -> list[int]:
        """The first LSNs of the segments that are kept. Raises wal.NotALog."""
        firsts = [each.first_lsn for each in wal.list_segments(self.log_directory)]
        if not firsts:
            raise wal.NotALog(str(self.log_directory), "no segment in the directory")
        return firsts

    def _read_end(self, reader: wal.Reader) -> None:
        while records := reader.read(READ_RECORDS):
            self._end = Mark(records[-1].lsn, record_time(records[-1].payload))

    def _close_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _state_at(self, lsn: int, time_us: int) -> ClusterState:
        for standing in reversed(self._kept):
            if standing.state.lsn == lsn or (not lsn and self._covers(standing, time_us)):
                return self._asked(standing)
        end = self.find_end()
        if lsn < 0:
            raise OutOfRange(f"there is no LSN {lsn}: {self._range()}")
        if lsn > end.lsn:
            raise OutOfRange(f"LSN {lsn} has not come yet: {self._range()}")
        if not lsn and time_us > max(end.time_us, self._now_us() + CLOCKS_APART_US):
            raise OutOfRange(f"that time has not come yet: {self._range()}")
        if not lsn and time_us >= end.time_us:
            return self._state_at(end.lsn, 0)
        return self._asked(self._stand_at(lsn, time_us))

    def _state_with_end_of(self, job_id: int, forgotten_lsn: int) -> ClusterState:
        standing = self._take_base(forgotten_lsn - 1, 0)
        try:
            if not _has_ended(standing.state, job_id):
                self._advance(standing, forgotten_lsn - 1, 0)
            if not _has_ended(standing.state, job_id):
                # It is forgotten by the same record.
                state, _ = self._stop_within(standing, lambda _: _has_ended(standing.state, job_id))
                return state
        except BaseException:
            standing.close()
            raise
        return self._asked(standing)

    def _state_before(
        self, lsn: int, comes: Callable[[ev.Event], bool]
    ) -> tuple[ClusterState, int]:
        if lsn < 2:
            raise OutOfRange(f"before LSN {lsn} there is nothing: {self._range()}")
        standing = self._stand_at(lsn - 1, 0)
        try:
            return self._stop_within(standing, comes)
        finally:
            standing.close()

    def _covers(self, standing: _Standing, time_us: int) -> bool:
        if standing.reader is not None and standing.state.time_us <= time_us:
            # It stood at the end of the log. Does something follow meanwhile?
            try:
                for record in standing.reader.read(1):
                    standing.next_time_us = record_time(record.payload)
                    standing.close()
            except wal.WalError:
                # The reader would refuse for ever. Whether the log still tells it, the log knows.
                standing.close()
        return standing.covers(time_us)

    def _asked(self, standing: _Standing) -> ClusterState:
        if standing in self._kept:
            self._kept.remove(standing)
        self._kept.append(standing)
        self._keep_at_most(STATES_KEPT)
        return standing.state

    def _keep_at_most(self, count: int) -> None:
        while len(self._kept) > count:
            self._kept.pop(0).close()
            # A state refers to itself, and the next one needs the room.
            gc.collect()

    def _stand_at(self, lsn: int, time_us: int) -> _Standing:
        standing = self._take_base(lsn, time_us)
        try:
            self._advance(standing, lsn, time_us)
        except BaseException:
            # What stopped half way is no state of any moment.
            standing.close()
            raise
        return standing

    def _take_base(self, lsn: int, time_us: int) -> _Standing:
        """The nearest at or before the moment to go on from; it is taken out of those kept."""
        nearest: _Standing | None = None
        # The one that was asked about last is likely to be asked about again.
        for each in self._kept[:-1]:
            is_before = each.state.lsn <= lsn if lsn else each.state.time_us <= time_us
            if is_before and (nearest is None or each.state.lsn > nearest.state.lsn):
                nearest = each
        least_lsn = nearest.state.lsn if nearest is not None else 0
        loaded = self._load_base(lsn, time_us, least_lsn)
        if loaded is not None:
            return loaded
        if nearest is None:
            raise OutOfRange(f"that is before the oldest moment that is kept: {self._range()}")
        if nearest in self._kept:
            self._kept.remove(nearest)
        return nearest

    def _load_base(self, lsn: int, time_us: int, least_lsn: int) -> _Standing | None:
        """The newest usable snapshot of the moment that lies beyond `least_lsn`, else the
        beginning of the log, unless there is something kept or the beginning is gone."""
        first_lsn = self.list_segments()[0]
        for snapshot_lsn in sorted(self._find_snapshots(), reverse=True):
            if snapshot_lsn <= least_lsn or snapshot_lsn + 1 < first_lsn:
                break
            head = self._read_head(snapshot_lsn)
            if head is None or (snapshot_lsn > lsn if lsn else head.time_us > time_us):
                continue
            self._keep_at_most(STATES_KEPT - 1)
            standing = self._load(snapshot_lsn)
            if standing is not None:
                return standing
        if least_lsn or first_lsn > 1:
            return None
        self._keep_at_most(STATES_KEPT - 1)
        if not lsn and time_us < self._find_oldest().time_us:
            return None
        return _Standing(ClusterState(), wal.Reader(self.log_directory, from_lsn=1))

    def _load(self, lsn: int) -> _Standing | None:
        try:
            with _without_gc():
                state, position, _ = load_snapshot(self._data_directory, lsn)
            return _Standing(state, wal.Reader(self.log_directory, position=position))
        except (SnapshotUnusable, wal.PositionMismatch) as error:
            _log.warning("a snapshot is passed over: %s", error)
            self._heads[lsn] = None
            return None

    def _read_head(self, lsn: int) -> SnapshotHead | None:
        """What a snapshot says of itself; None for one that is not usable."""
        if lsn not in self._heads:
            try:
                self._heads[lsn] = load_head(self._data_directory, lsn)
            except SnapshotUnusable as error:
                _log.warning("a snapshot is passed over: %s", error)
                self._heads[lsn] = None
        return self._heads[lsn]

    def _find_snapshots(self) -> list[int]:
        return wal.find_snapshots(self._snapshots)

    def _advance(self, standing: _Standing, lsn: int, time_us: int) -> None:
        """Reads on up to that record, or that time."""
        reader = standing.reader or wal.Reader(self.log_directory, from_lsn=standing.state.lsn + 1)
        standing.reader, standing.next_time_us = reader, 0

        def wanted() -> Iterator[wal.Record]:
            while records := reader.read(READ_RECORDS):
                for record in records:
                    # Only of the record that ends it the time is of interest.
                    is_later = record.lsn > lsn if lsn else record_time(record.payload) > time_us
                    if is_later:
                        standing.next_time_us = record_time(record.payload)
                        standing.close()
                        return
                    yield record

        with _without_gc():
            replay(wanted(), standing.state)
        if lsn and standing.state.lsn < lsn:
            raise OutOfRange(f"LSN {lsn} has not come yet: {self._range()}")

    def _stop_within(
        self, standing: _Standing, is_there: Callable[[ev.Event], bool]
    ) -> tuple[ClusterState, int]:
        """Goes on into the record after it, and stops before an event when it is there; with the
        record's time. What it leaves is no state of any moment, and is not kept."""
        standing.close()
        state = standing.state
        with wal.Reader(self.log_directory, from_lsn=state.lsn + 1) as reader:
            ((lsn, payload),) = reader.read(1)
        time_us, events = ev.decode_record(payload)
        state.begin_record(lsn, time_us)
        for event in events:
            if is_there(event):
                break
            state.apply(event)
        return state, time_us

    def _range(self) -> str:
        oldest = self._find_oldest()
        return f"the past can be asked about from {oldest} to {self.find_end()}"

    def _find_oldest(self) -> Mark:
        first_lsn = self.list_segments()[0]
        for lsn in sorted(self._find_snapshots()) if first_lsn > 1 else ():
            head = self._read_head(lsn)
            if head is not None and lsn + 1 >= first_lsn:
                return Mark(lsn, head.time_us)
        with wal.Reader(self.log_directory, from_lsn=first_lsn) as reader:
            first = reader.read(1)
        return Mark(first[0].lsn, record_time(first[0].payload)) if first else self._end


@contextmanager
def _without_gc() -> Iterator[None]:
    """What is made here stays; to look for garbage among it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def record_time(payload: bytes) -> int:
    """The time of a record, without decoding its events. Raises EventError."""
    # An array of two whose first item is an integer of 64 bits: any time since 1970 and an hour.
    if payload[:2] == b"\x92\xcf":
        return int.from_bytes(payload[2:10], "big")
    return ev.decode_record(payload)[0]


def _has_ended(state: ClusterState, job_id: int) -> bool:
    job = state.jobs.get(job_id)
    return job is not None and job.has_ended
