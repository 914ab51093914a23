"""What of the log and its snapshots is kept, and the removal of the rest.

The log is kept for `retain`, and beyond it as far as somebody needs it: a start from the
second newest snapshot, should the newest prove damaged, and every reader that has a slot.
It is cut where a snapshot stands, so that every moment that is kept can be looked at, and a
reader that starts again can have the state at its slot.

Snapshots are dense where the log is young and sparse where it is old: to look back costs
the replay of what lies between the moment and the snapshot before it, and that is allowed
to be half of how far back the moment is, and never more than a GiB.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

import wal
from titan.logs import LogLine
from titan.snapshots import SnapshotUnusable, load_head, snapshot_directory
from wal import (
    FileSystem,
    Slot,
    check_snapshot,
    find_snapshots,
    list_segments,
    open_snapshot,
    read_slots,
    remove_segments_before,
    remove_slot,
    remove_snapshot,
    sync_snapshots,
)
from wal.filesystem import OS_FILE_SYSTEM

_log = logging.getLogger("titan.retention")

SPACING_BYTES_MAX: Final = 1 << 30
# Below that a replay is quick anyway, and many small snapshots are only clutter.
SPACING_BYTES_MIN: Final = 8 << 20


class Kept(NamedTuple):
    """A snapshot that can be used."""

    lsn: int
    time_us: int
    offset_bytes: int
    """How much of the log lies before it, counted from the oldest segment that is there."""


class Plan(NamedTuple):
    """What is to be removed."""

    slots: list[Slot]
    snapshots: list[int]
    records_before_lsn: int
    """Segments that hold only records before it; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an operator chooses."""

    retain_us: int = 7 * 24 * 3600 * 1_000_000
    reader_lag_max_bytes: int = 10 << 30
    spacing_bytes_min: int = SPACING_BYTES_MIN


class Retention:
    """Tidies one data directory. For the manager alone, one call at a time, in any thread."""

    def __init__(
        self, data_directory: Path, limits: Limits, *, file_system: FileSystem = OS_FILE_SYSTEM
    ) -> None:
        self._file_system = file_system
        self._data_directory = data_directory
        self._log_directory = data_directory / "wal"
        self._snapshots = snapshot_directory(data_directory)
        self._readers = data_directory / "readers"
        self._limits = limits
        # The times of the snapshots that were looked at; None: it cannot be used.
        self._times: dict[int, int | None] = {}
        # Those that were read to their ends.
        self._whole: set[int] = set()
        self._is_stopped = Event()

    def note_unusable(self, lsn: int) -> None:
        """That snapshot could not be taken up: it counts for nothing."""
        self._times[lsn] = None

    def stop(self) -> None:
        """A tidying under way in another thread ends after its next step; what is left can wait."""
        self._is_stopped.set()

    def tidy(self, *, now_us: int, end_lsn: int, last_segment_bytes: int) -> Plan:
        """Removes what nobody needs, and says what that was.

        `end_lsn` is the last durable record, `last_segment_bytes` how much of its segment is
        in use. Nothing may be making a snapshot meanwhile. Raises wal.WalError, OSError.
        """
        lsns = find_snapshots(self._snapshots, file_system=self._file_system)
        segments = list_segments(self._log_directory, file_system=self._file_system)
        sizes = [each.size_bytes for each in segments[:-1]] + [last_segment_bytes]
        measure = _Measure([each.first_lsn for each in segments] + [end_lsn + 1], sizes)
        slots = read_slots(
            self._readers,
            on_warning=lambda text: _log.warning("%s", text),
            file_system=self._file_system,
        )
        while True:
            usable = [
                Kept(lsn, time_us, measure.offset(lsn))
                for lsn in lsns
                if (time_us := self._time_of(lsn)) is not None
            ]
            plan = make_plan(
                usable, slots, measure.offset, measure.offset(end_lsn + 1), now_us, self._limits
            )
            if self._is_safe(plan, usable):
                break
        # Unusable ones go when two that can be used are newer: until then they may tell something.
        dead = [lsn for lsn in lsns if self._times[lsn] is None and lsn < _second_newest(usable)]
        self._remove(plan, dead)
        return plan

    def _is_safe(self, plan: Plan, usable: Sequence[Kept]) -> bool:
        """Whether the snapshots that a start could need after it are whole, read to their ends.

        One that is not counts for nothing from now on, and there has to be another plan.
        """
        if not plan.records_before_lsn:
            return True
        left = [each.lsn for each in usable if each.lsn not in plan.snapshots]
        for lsn in {left[0], *left[-2:]} - self._whole:
            try:
                check_snapshot(self._snapshots, lsn, file_system=self._file_system)
            except (wal.WalError, OSError) as error:
                _log.warning("the snapshot at LSN %d cannot be used: %s", lsn, error)
                self._times[lsn] = None
                return False
            self._whole.add(lsn)
        return True

    def _remove(self, plan: Plan, dead: Sequence[int]) -> None:
        for slot in plan.slots:
            _log.warning(
                LogLine(
                    "a reader is too far behind and is dropped; it has to begin anew",
                    reader=slot.name,
                    lsn=slot.position.lsn,
                    reader_lag_max=self._limits.reader_lag_max_bytes,
                )
            )
            remove_slot(self._readers, slot.name, file_system=self._file_system)
        removed = 0
        if plan.records_before_lsn:
            # A snapshot whose maker was killed may have its name in memory only.
            sync_snapshots(self._snapshots, file_system=self._file_system)
            segments = list_segments(self._log_directory, file_system=self._file_system)
            for following in segments[1:]:
                # One by one: each waits for the disk, and there may be thousands.
                if following.first_lsn > plan.records_before_lsn or self._is_stopped.is_set():
                    break
                removed += remove_segments_before(
                    self._log_directory, following.first_lsn, file_system=self._file_system
                )
        for lsn in (*plan.snapshots, *dead):
            if self._is_stopped.is_set():
                return
            remove_snapshot(self._snapshots, lsn, file_system=self._file_system)
            self._times.pop(lsn, None)
            self._whole.discard(lsn)
        if removed or plan.snapshots or dead:
            left = list_segments(self._log_directory, file_system=self._file_system)
            _log.info(
                LogLine(
                    "tidied up",
                    segments_removed=removed,
                    snapshots_removed=len(plan.snapshots) + len(dead),
                    first_lsn=left[0].first_lsn,
                )
            )

    def newest(self) -> tuple[int, int]:
        """The LSN and the bytes of the newest snapshot that can be used; zeros without one."""
        for lsn in reversed(find_snapshots(self._snapshots, file_system=self._file_system)):
            if self._time_of(lsn) is not None:
                with open_snapshot(self._snapshots, lsn, file_system=self._file_system) as snapshot:
                    return lsn, snapshot.size_bytes
        return 0, 0

    def _time_of(self, lsn: int) -> int | None:
        if lsn not in self._times:
            try:
                head = load_head(self._data_directory, lsn, file_system=self._file_system)
                self._times[lsn] = head.time_us
            except SnapshotUnusable as error:
                _log.warning("%s", error)
                self._times[lsn] = None
        return self._times[lsn]


def make_plan(
    usable: Sequence[Kept],
    slots: Sequence[Slot],
    offset_of: Callable[[int], int],
    end_bytes: int,
    now_us: int,
    limits: Limits,
) -> Plan:
    """What is to go. `usable` rises; `offset_of` tells how much of the log lies before an LSN."""
    dropped = [
        slot
        for slot in slots
        if end_bytes - offset_of(slot.position.lsn) > limits.reader_lag_max_bytes
    ]
    if len(usable) < 2:
        return Plan(dropped, [], 0)
    # Everything from this snapshot on stays: it is old enough, not the newest one, and no reader
    # stands before it.
    needed = min(
        (slot.position.lsn for slot in slots if slot not in dropped), default=usable[-1].lsn
    )
    candidates = [
        each
        for each in usable[:-1]
        if each.time_us <= now_us - limits.retain_us and each.lsn <= needed
    ]
    base = candidates[-1] if candidates else None
    before_lsn = base.lsn + 1 if base is not None else 0
    kept = _thin(usable, base, end_bytes, limits.spacing_bytes_min)
    gone = [each.lsn for each in usable if each.lsn not in kept]
    return Plan(dropped, gone, before_lsn)


def _thin(
    usable: Sequence[Kept], base: Kept | None, end_bytes: int, spacing_bytes_min: int
) -> set[int]:
    """The LSNs of the snapshots that stay: the newest two, the base, and enough in between."""
    kept = {each.lsn for each in usable[-2:]}
    last = usable[-2]
    oldest_lsn = base.lsn if base is not None else 0
    # From the young to the old: one goes when the next older one is near enough to the last kept.
    older = [each for each in usable[:-2] if each.lsn >= oldest_lsn]
    while older:
        each = older.pop()
        is_end = not older
        following = older[-1] if older else each
        allowed = min(
            max((end_bytes - following.offset_bytes) // 2, spacing_bytes_min), SPACING_BYTES_MAX
        )
        if is_end or last.offset_bytes - following.offset_bytes > allowed:
            kept.add(each.lsn)
            last = each
    return kept


def _second_newest(usable: Sequence[Kept]) -> int:
    return usable[-2].lsn if len(usable) > 1 else 0


class _Measure:
    """How much of the log lies before a record, by the sizes of the segments."""

    def __init__(self, firsts: Sequence[int], sizes: Sequence[int]) -> None:
        """The first LSN of each segment and then of what comes next; the bytes of each."""
        self._firsts = firsts
        self._starts = [0, *accumulate(sizes)]

    def offset(self, lsn: int) -> int:
        """Within a segment as if its records were all of one size."""
        if lsn >= self._firsts[-1]:
            return self._starts[-1]
        at = bisect_right(self._firsts, lsn) - 1
        if at < 0:
            return 0
        start, size = self._starts[at], self._starts[at + 1] - self._starts[at]
        records = self._firsts[at + 1] - self._firsts[at]
        return start + size * (lsn - self._firsts[at]) // records
