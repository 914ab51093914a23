"""Looks at all of a data directory: every byte of the log, its replay, snapshots and slots.

The one judgement behind `verify` and `repair`. It reads only. On a live directory all that
is found was there before the log was read, so whatever it names must be in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import wal
from titan.snapshots import SnapshotUnusable, load_snapshot
from titan.state.cluster import ClusterState, IllegalEvent
from titan.state.digest import digest
from titan.state.invariants import InvariantViolated, check_invariants
from titan.state.replay import UnknownRecord, replay
from titan.waltools.looks import look_again
from titan.waltools.places import Places
from wal import FileSystem, Position, Record
from wal.filesystem import OS_FILE_SYSTEM
from wal.inspect import inspect_log
from wal.report import LogReport, SegmentReport, position_fault

Progress = Callable[[str], None]


class Named(NamedTuple):
    """A snapshot or a reader's slot, and the position that it names; None if it can't be read."""

    path: Path
    position: Position | None
    fault: str
    """What is wrong with it; empty: nothing."""
    note: str = ""
    """What was found out about it otherwise."""
    is_wrong_state: bool = False
    """A snapshot whose state is not what the log from its first record on leads to."""


class ReplayFault(NamedTuple):
    """A record that could not be replayed, or whose state contradicts itself or a snapshot."""

    lsn: int
    why: str


class Stretch(NamedTuple):
    """Records that were replayed without a break, from an empty state (0) or a snapshot on."""

    after_lsn: int
    last_lsn: int


@dataclass(slots=True, kw_only=True)
class Examination:
    """What was found."""

    places: Places
    log: LogReport
    state: ClusterState | None = None
    """That of the last record; None if nothing leads there."""
    snapshots: list[Named] = field(default_factory=list)
    slots: list[Named] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    replay_faults: list[ReplayFault] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing at all is wrong."""
        named = (*self.snapshots, *self.slots)
        return not (self.log.faults or self.replay_faults or any(each.fault for each in named))


def examine(
    places: Places,
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
    progress: Progress = lambda _: None,
) -> Examination:
    """Looks at everything. Raises wal.NotALog, wal.NewerVersion, OSError. O(bytes)."""
    return look_again(lambda: _Examiner(places, file_system, progress).run())


def find_slots(places: Places, file_system: FileSystem = OS_FILE_SYSTEM) -> list[Named]:
    """The readers' slots, also those that cannot be read. Raises OSError."""
    before = _slot_names(places, file_system)
    found = [
        Named(places.readers / f"{slot.name}.slot", slot.position, "")
        for slot in wal.read_slots(
            places.readers, on_warning=lambda _: None, file_system=file_system
        )
    ]
    read = {each.path.name for each in found}
    # Readers come and go meanwhile: only what was there all the time should have been read.
    bad = sorted((before & _slot_names(places, file_system)) - read)
    return [*found, *(Named(places.readers / name, None, "it cannot be read") for name in bad)]


def find_firsts(places: Places, file_system: FileSystem = OS_FILE_SYSTEM) -> list[int]:
    """The first record of each segment that there is."""
    try:
        segments = wal.list_segments(places.log, file_system=file_system)
    except (FileNotFoundError, NotADirectoryError):
        return []  # The inspection says so.
    return [each.first_lsn for each in segments]


def slot_fault(log: LogReport, position: Position, firsts: list[int]) -> str:
    """What is wrong with a slot's position; `firsts` is of before it was read, `log` of after."""
    was_there = bool(firsts) and position.lsn >= firsts[0] - 1
    if was_there and position.lsn < log.first_lsn - 1:
        return ""  # Its reader went on since, and the segment was removed.
    return position_fault(log, position)


def _slot_names(places: Places, file_system: FileSystem) -> set[str]:
    try:
        names = file_system.list_directory(str(places.readers))
    except FileNotFoundError:
        return set()
    return {name for name in names if name.endswith(".slot")}


class _Examiner:
    def __init__(self, places: Places, file_system: FileSystem, progress: Progress) -> None:
        self._places = places
        self._file_system = file_system
        self._progress = progress

    def run(self) -> Examination:
        places = self._places
        # In the order in which they came to be: what is read first cannot be newer than the log.
        firsts = find_firsts(places, self._file_system)
        slots = find_slots(places, self._file_system)
        lsns = wal.find_snapshots(places.snapshots, file_system=self._file_system)
        replayer = _Replayer(places.root, lsns, self._file_system)
        total = len(firsts)
        done = 0

        def on_segment(segment: SegmentReport) -> None:
            nonlocal done
            done += 1
            replayer.on_segment(segment)
            self._progress(f"segment {done} of {max(total, done)}")

        marks = {*lsns, *(slot.position.lsn for slot in slots if slot.position)}
        log = inspect_log(
            str(places.log),
            file_system=self._file_system,
            marks=marks,
            on_records=replayer.on_records,
            on_segment=on_segment,
        )
        replayer.finish(log.next_lsn - 1)
        is_at_end = replayer.state is not None and replayer.state.lsn == log.next_lsn - 1
        found = Examination(
            places=places,
            log=log,
            state=replayer.state if is_at_end else None,
            snapshots=[self._judge_snapshot(log, each) for each in replayer.snapshots()],
            slots=[self._judge_slot(log, each, firsts) for each in slots],
            stretches=replayer.stretches,
            replay_faults=replayer.faults,
        )
        if found.state is None and not (found.log.faults or found.replay_faults):
            if firsts[:1] < [log.first_lsn] or len(found.snapshots) < len(lsns):
                # What led there was removed meanwhile, for newer snapshots that were not looked at.
                raise wal.RecordsGone(str(places.log), firsts[0] if firsts else 1, log.first_lsn)
            why = (
                f"nothing leads to the state at the end: the log begins with record "
                f"{log.first_lsn}, and there is no usable snapshot from there on"
            )
            found.replay_faults.append(ReplayFault(log.first_lsn, why))
        return found

    def _judge_snapshot(self, log: LogReport, found: Named) -> Named:
        if found.fault or found.position is None:
            return found
        # What came before it may be gone, and what came after it for a while, too.
        if found.position.lsn < log.first_lsn - 1:
            return found._replace(note="older than the log")
        return found._replace(fault=position_fault(log, found.position))

    def _judge_slot(self, log: LogReport, found: Named, firsts: list[int]) -> Named:
        if found.fault or found.position is None:
            return found
        return found._replace(fault=slot_fault(log, found.position, firsts))


class _Replayer:
    """Replays what is met in the log, from its beginning or from any snapshot on.

    After a break it takes the replay up again at the next snapshot, so that the rest is
    looked at, too. Invariant: `state` is what the sound records up to `state.lsn` lead to.
    """

    def __init__(self, root: Path, lsns: Collection[int], file_system: FileSystem) -> None:
        self.state: ClusterState | None = None
        self.stretches: list[Stretch] = []
        self.faults: list[ReplayFault] = []
        self._root = root
        self._file_system = file_system
        self._found: dict[int, Named | None] = dict.fromkeys(sorted(lsns))
        self._after_lsn = 0
        self._path = ""
        # The chain CRC with which the segment behind a bad one goes on, if nothing is missing.
        self._chain: int | None = None

    def on_records(self, segment: SegmentReport, records: list[Record]) -> None:
        """Some records of a segment, in order."""
        if segment.path != self._path:
            self._path = segment.path
            if segment.gap is not None or not self._follows(segment):
                self._stop()
        start = 0
        for at, (lsn, _) in enumerate(records):
            if self.state is None:
                self._take_up(lsn)
                start = at
            if lsn in self._found:
                self._replay(records[start : at + 1])
                start = at + 1
                self._compare(lsn)
        self._replay(records[start:])

    def on_segment(self, segment: SegmentReport) -> None:
        """A segment has been read."""
        self._chain = segment.chain if segment.fault else None

    def finish(self, last_lsn: int) -> None:
        """All has been read. Looks at the end, and at the snapshots that were not met."""
        if self.state is None:
            self._take_up(last_lsn + 1)
        if self.state is not None:
            self._check_invariants(self.state)
            self.stretches.append(Stretch(self._after_lsn, self.state.lsn))
        for lsn, found in self._found.items():
            if found is None:
                self._load(lsn, "not compared with a replay")

    def snapshots(self) -> list[Named]:
        """What was found out about each; those that were removed meanwhile are left out."""
        return [each for each in self._found.values() if each is not None]

    def _follows(self, segment: SegmentReport) -> bool:
        chain, self._chain = self._chain, None
        return chain is None or (segment.header is not None and segment.header.chain == chain)

    def _stop(self) -> None:
        if self.state is not None:
            self.stretches.append(Stretch(self._after_lsn, self.state.lsn))
        self.state = None

    def _take_up(self, lsn: int) -> None:
        """Begins at this record, if that can be."""
        if lsn == 1:
            self.state, self._after_lsn = ClusterState(), 0
        elif lsn - 1 in self._found:
            self.state = self._load(lsn - 1, "taken up")
            self._after_lsn = lsn - 1

    def _replay(self, records: list[Record]) -> None:
        state = self.state
        if state is None or not records:
            return
        if records[0].lsn != state.lsn + 1:
            self._stop()
            return
        try:
            replay(records, state)
        except UnknownRecord as error:
            self.faults.append(ReplayFault(state.lsn + 1, str(error)))
            self._stop()
        except IllegalEvent as error:
            # The state has the number of a record from the moment that it begins with it.
            self.faults.append(ReplayFault(state.lsn, f"record {state.lsn}: {error}"))
            state.lsn -= 1
            self._stop()

    def _compare(self, lsn: int) -> None:
        """The snapshot at this record and the state that the records led to must be one."""
        if self.state is None or self.state.lsn != lsn:
            return
        expected = digest(self.state)
        self._check_invariants(self.state)
        loaded = self._load(lsn, "as the replay")
        if loaded is not None and digest(loaded) != expected:
            found = self._found[lsn]
            assert found is not None
            if self._after_lsn:
                # Which of the two is right, nobody can tell any more.
                why = f"the snapshots at records {self._after_lsn} and {lsn} contradict each other"
                self.faults.append(ReplayFault(lsn, why))
                return
            fault = f"its state is not the one that the records up to {lsn} lead to"
            self._found[lsn] = found._replace(fault=fault, note="", is_wrong_state=True)

    def _check_invariants(self, state: ClusterState) -> None:
        try:
            check_invariants(state)
        except InvariantViolated as error:
            self.faults.append(ReplayFault(state.lsn, f"the state at record {state.lsn}: {error}"))

    def _load(self, lsn: int, note: str) -> ClusterState | None:
        path = self._root / "snapshots" / wal.snapshot_name(lsn)
        try:
            loaded = load_snapshot(self._root, lsn, file_system=self._file_system)
        except SnapshotUnusable as error:
            if isinstance(error.__cause__, wal.NewerVersion):
                raise error.__cause__ from error
            if not isinstance(error.__cause__, FileNotFoundError):
                self._found[lsn] = Named(path, None, str(error.__cause__))
            return None
        self._found[lsn] = Named(path, loaded.position, "", note)
        return loaded.state
