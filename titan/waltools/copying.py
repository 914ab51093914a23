"""Copying a cluster's log from one place to another, where each is a data directory or a database.

The copy is the same log: its records lie in the same frames with the same chain CRCs, and snapshots
and readers' slots come along. A manager that starts on it has the same state. Nothing is written
over: what a target has must be the beginning of what the source has, and is gone on with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import wal
from titan.paths import is_postgresql_url
from titan.units import format_size
from titan.waltools.copy_database import DatabaseSource, DatabaseTarget
from titan.waltools.copy_ends import CopyRefused, Source, Target
from titan.waltools.copy_files import DirectorySource, DirectoryTarget

BATCH_BYTES: Final = 8 << 20
_BATCH_FRAMES: Final = 4096

Progress = Callable[[str], None]


class Copied(NamedTuple):
    """What the target has now, and how much of that is new."""

    first_lsn: int
    last_lsn: int
    records: int
    size_bytes: int
    snapshots: int
    slots: int
    unusable: list[int]
    """The snapshots that are damaged at their source, and are not in the target."""


def copy_log(source: str, target: str, progress: Progress = lambda _: None) -> Copied:
    """Copies what is not there yet; each place is a data directory or a URL.

    May be stopped at any moment and called again. Raises CopyRefused, JournalUnavailable,
    JournalRefused, wal.WalError, OSError. O(bytes that are new).
    """
    with ExitStack() as open_ends:
        origin = _open_source(source)
        open_ends.callback(origin.close)
        goal = _open_target(target)
        open_ends.callback(goal.close)
        return _Copying(origin, goal, progress).run()


def _open_source(place: str) -> Source:
    return DatabaseSource(place) if is_postgresql_url(place) else DirectorySource(Path(place))


def _open_target(place: str) -> Target:
    return DatabaseTarget(place) if is_postgresql_url(place) else DirectoryTarget(Path(place))


class _Copying:
    """One call."""

    def __init__(self, source: Source, target: Target, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress

    def run(self) -> Copied:
        source, target = self._source, self._target
        begun = self._check_target()
        snapshots = self._check_snapshots()
        if begun is None:
            target.begin(source.base, source.name)
            begun = source.base
        else:
            target.resume(source.name)
        size_bytes = self._copy_frames(begun)
        there = target.snapshots()
        wanted = [position for position in snapshots if position.lsn not in there]
        unusable = []
        for number, position in enumerate(wanted, 1):
            self._progress(f"snapshot {number} of {len(wanted)}")
            if not target.put_snapshot(position, source.snapshot(position)):
                unusable.append(position.lsn)
        if source.base.lsn and len(unusable) == len(snapshots):
            raise CopyRefused(_no_beginning(source))
        slots = self._copy_slots()
        self._progress("looking at the state")
        target.finish()
        return Copied(
            source.base.lsn + 1,
            source.end.lsn,
            source.end.lsn - begun.lsn,
            size_bytes,
            len(wanted) - len(unusable),
            slots,
            unusable,
        )

    def _check_target(self) -> wal.Position | None:
        """Where the target is to be gone on with; None: it has nothing. Raises CopyRefused."""
        source, target = self._source, self._target
        there = target.end
        if there is None:
            return None
        if there.log_id != source.end.log_id:
            raise CopyRefused(
                f"{target.name} has another log, {there.log_id.hex()}, than {source.name}, "
                f"{source.end.log_id.hex()}: nothing was written; name another place"
            )
        if there.lsn > source.end.lsn:
            raise CopyRefused(
                f"{target.name} ends with record {there.lsn}, and {source.name} before it, with "
                f"record {source.end.lsn}: nothing was written"
            )
        try:
            source.check_place(there)
        except wal.RecordsGone as error:
            raise CopyRefused(
                f"{target.name} ends with record {there.lsn}, and what follows it is not kept in "
                f"{source.name} any more: nothing was written; name another place"
            ) from error
        except wal.PositionMismatch as error:
            raise CopyRefused(
                f"{target.name} ends with record {there.lsn} of another history than "
                f"{source.name}: nothing was written; name another place"
            ) from error
        return there

    def _check_snapshots(self) -> list[wal.Position]:
        """Those that a start from the copy can take up. Raises CopyRefused."""
        source = self._source
        part = range(source.base.lsn, source.end.lsn + 1)
        found = []
        for lsn in source.snapshots():
            position = source.check_snapshot(lsn) if lsn in part else None
            if position is not None:
                try:
                    source.check_place(position)
                except (wal.PositionMismatch, wal.RecordsGone):
                    continue
                found.append(position)
        if source.base.lsn and not found:
            raise CopyRefused(_no_beginning(source))
        return found

    def _copy_frames(self, begun: wal.Position) -> int:
        end_lsn = self._source.end.lsn
        copied_bytes = batch_bytes = 0
        batch: list[wal.PackedFrame] = []
        for frame in self._source.frames(begun):
            batch.append(frame)
            batch_bytes += len(frame.body)
            if batch_bytes >= BATCH_BYTES or len(batch) >= _BATCH_FRAMES:
                self._target.add(batch)
                copied_bytes += batch_bytes
                told = format_size(copied_bytes)
                self._progress(f"record {batch[-1].last_lsn} of {end_lsn}, {told}")
                batch, batch_bytes = [], 0
        if batch:
            self._target.add(batch)
        return copied_bytes + batch_bytes

    def _copy_slots(self) -> int:
        there = {slot.name: slot.position.lsn for slot in self._target.slots()}
        copied = 0
        for slot in self._source.slots():
            is_new = there.get(slot.name, -1) < slot.position.lsn <= self._source.end.lsn
            if is_new and slot.position.log_id == self._source.end.log_id:
                self._target.put_slot(slot)
                copied += 1
        return copied


def _no_beginning(source: Source) -> str:
    return (
        f"{source.name} begins with record {source.base.lsn + 1}, and no usable snapshot leads "
        "there: nothing could be started from a copy"
    )
