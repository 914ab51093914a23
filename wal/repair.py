"""Bringing a damaged log back to a sound part of itself. Nothing is removed: all is moved aside.

First a plan, from what an inspection found: which part is kept, what goes, what that loses. Then
its steps, each of which leaves a directory on which a plan can be made again that keeps the same:
the far ends go first, so that what is kept stays in one piece, and what goes is copied and synced
before it is cut. The caller holds the lock, and opens the log afterwards to see that it is sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from wal.directory import DURABLE_NAME, join, segment_name
from wal.errors import WalError
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_chunks, replace_file, write_all
from wal.layout import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    encode_end,
    encode_segment_header,
)
from wal.record import Position
from wal.report import Fault, LogReport, Mark, SegmentReport
from wal.salvage import read_on


class NoStart(WalError):
    """No part of the log could be started from: neither record 1 nor a snapshot is there."""


class Anchor(NamedTuple):
    """A file beside the log that names a position in it: a snapshot, or a reader's slot."""

    path: str
    position: Position | None
    """None: it cannot be read."""
    is_start: bool
    """Whether the owner could begin from it: a snapshot, and its content is right."""
    fault: str = ""
    """What is wrong with it that its position does not show."""


class Step(NamedTuple):
    """One thing to do: move a file aside, or put the bytes from `offset` on aside and cut them off,
    or make a new segment of bytes of an old one.

    `size_bytes`: how many bytes there are before nothing but zeros follows. `end`: what is then
    written at `offset`, a frame that ends the segment. `header`: what a new segment at `path`
    begins with, in front of the bytes from `offset` on of the old one, `source`.
    """

    path: str
    why: str
    offset: int | None = None
    size_bytes: int = 0
    end: bytes = b""
    header: bytes = b""
    source: str = ""


class Plan(NamedTuple):
    """What a repair would keep, what it would do, and what that loses."""

    start: Position | None
    """The snapshot from which the rest is to be replayed; None: from record 1."""
    first_lsn: int
    """The first record that is kept,"""
    last_lsn: int
    """and the last one."""
    lost: range
    """The records after that which were acknowledged and go."""
    lost_history: range
    """The records before `first_lsn` which go; a snapshot holds what they led to."""
    steps: tuple[Step, ...]


class _Run(NamedTuple):
    """Segments that follow each other without a gap; only the last one may have a fault."""

    segments: list[SegmentReport]
    mends: list[SegmentReport]
    """Those of them that lack nothing but a sound end frame."""
    marks: dict[int, Mark]
    """The ends of the frames that hold the LSNs of the anchors."""
    graft: Step | None = None
    """How the first one is made, if it is not there yet."""

    @property
    def last_lsn(self) -> int:
        return self.segments[-1].next_lsn - 1


def make_plan(
    log: LogReport, anchors: Sequence[Anchor] = (), *, file_system: FileSystem = OS_FILE_SYSTEM
) -> Plan:
    """Find the part of a log that loses least, and what is to be done to keep only that.

    The inspection must have been asked for the LSNs of the anchors. What reaches furthest is kept,
    since that is what was acknowledged last; of two that reach as far, the one with more history.
    Reads only. Raises NoStart.
    """
    best: tuple[_Run, Position | None] | None = None
    runs = list(_find_runs(log))
    for run in (*runs, *_find_grafts(log, runs, anchors, file_system)):
        found, start = _find_start(log, run, anchors)
        if found and (best is None or run.last_lsn > best[0].last_lsn):
            best = run, start
    if best is None:
        raise NoStart(
            f"{log.directory}: nothing can be kept: what can be read begins neither with record 1 "
            "nor where a sound snapshot ends"
        )
    run, start = best
    known = [log.known_lsn]
    positions = [each.position for each in anchors if each.position is not None]
    known += [position.lsn for position in positions if position.log_id == log.log_id]
    first_lsn = run.segments[0].first_lsn
    return Plan(
        start=start,
        first_lsn=first_lsn,
        last_lsn=run.last_lsn,
        lost=range(run.last_lsn + 1, max(known) + 1),
        lost_history=range(log.first_lsn, first_lsn),
        steps=tuple(_steps(log, run, anchors)),
    )


def execute_plan(plan: Plan, aside: str, *, file_system: FileSystem = OS_FILE_SYSTEM) -> None:
    """Do it; everything that goes is in the directory `aside` afterwards, under its name.

    May be called again after a crash, with a new plan and the same `aside`. Raises OSError. O(bytes
    that are cut); files are moved whole.
    """
    file_system.make_directory(aside)
    for step in plan.steps:
        if step.offset is None:
            _move_aside(file_system, step.path, aside)
        elif step.header:
            _make_segment(file_system, step, step.offset)
        else:
            _cut(file_system, step, step.offset, aside)


def _find_runs(log: LogReport) -> Iterator[_Run]:
    segments: list[SegmentReport] = []
    mends: list[SegmentReport] = []
    for segment, following in pairwise([*log.segments, None]):
        assert segment is not None
        if segment.log_id != log.log_id:
            continue  # It ended the run before it.
        segments.append(segment)
        if following is not None and _follows(log, segment, following):
            if segment.fault:
                mends.append(segment)
            continue
        yield _Run(segments, mends, log.marks)
        segments, mends = [], []


def _follows(log: LogReport, segment: SegmentReport, following: SegmentReport) -> bool:
    """Whether nothing is lost between two segments, even if the first has no sound end frame."""
    if following.header is None or following.log_id != log.log_id:
        return False
    begins = (following.header.first_lsn, following.header.chain)
    return begins == (segment.next_lsn, segment.chain)


def _find_grafts(
    log: LogReport, runs: Sequence[_Run], anchors: Sequence[Anchor], file_system: FileSystem
) -> Iterator[_Run]:
    """Find what goes on behind the snapshots that no run leads to.

    The newest state that is known must not go because of a bad byte before it: a new segment takes
    the frames behind the snapshot, whose chain CRCs prove that they are, or is empty.
    """
    for anchor in anchors:
        position = anchor.position
        if position is None or not anchor.is_start or position.log_id != log.log_id:
            continue
        if position.lsn in log.marks or any(_is_in(log, run, position) for run in runs):
            continue  # It is part of a run, or contradicts one.
        asked = [each.position.lsn for each in anchors if each.position is not None]
        yield _graft(log, runs, position, asked, file_system)


def _graft(
    log: LogReport,
    runs: Sequence[_Run],
    position: Position,
    asked: Sequence[int],
    file_system: FileSystem,
) -> _Run:
    first_lsn = position.lsn + 1
    path = join(log.directory, segment_name(first_lsn))
    header = SegmentHeader(position.log_id, first_lsn, position.chain, salt=position.chain)
    found = SegmentReport(
        path=path,
        first_lsn=first_lsn,
        size_bytes=SEGMENT_HEADER_BYTES,
        header=header,
        next_lsn=first_lsn,
        chain=position.chain,
        used_bytes=SEGMENT_HEADER_BYTES,
    )
    why = f"a new segment goes on behind the snapshot at record {position.lsn}"
    step = Step(path, why, 0, 0, header=encode_segment_header(header))
    marks = log.marks
    for segment in log.segments:
        if segment.log_id != log.log_id or segment.first_lsn > position.lsn:
            continue
        rest = read_on(segment, position, asked, file_system=file_system)
        if rest is not None:
            found = rest.segment
            assert found.header is not None
            marks = log.marks | rest.marks
            size_bytes = found.used_bytes - SEGMENT_HEADER_BYTES
            head = encode_segment_header(found.header)
            step = Step(path, why, rest.offset, size_bytes, header=head, source=segment.path)
    for run in runs if found.is_ended else ():
        for at, following in enumerate(run.segments):
            if _follows(log, found, following):
                return _Run([found, *run.segments[at:]], run.mends, marks, step)
    return _Run([found], [], marks, step)


def _find_start(
    log: LogReport, run: _Run, anchors: Sequence[Anchor]
) -> tuple[bool, Position | None]:
    """Say whether the owner can start from what the run holds, and the snapshot it needs for it."""
    first_lsn = run.segments[0].first_lsn
    if first_lsn == 1 and run.last_lsn > 0 and run.segments[0].gap is None:
        return True, None
    starts = [
        each.position
        for each in anchors
        if each.is_start and each.position is not None and _is_in(log, run, each.position)
    ]
    newest = max(starts, key=lambda position: position.lsn, default=None)
    return newest is not None, newest


def _is_in(log: LogReport, run: _Run, position: Position) -> bool:
    """Whether the records behind a position are those of the run."""
    first = run.segments[0]
    if position.log_id != log.log_id or not first.first_lsn - 1 <= position.lsn <= run.last_lsn:
        return False
    if position.lsn == first.first_lsn - 1:
        return first.header is not None and first.header.chain == position.chain
    mark = run.marks.get(position.lsn)
    if mark is None or mark.chain != position.chain:
        return False
    return any(each.first_lsn == mark.segment for each in run.segments)


def _steps(log: LogReport, run: _Run, anchors: Sequence[Anchor]) -> Iterator[Step]:
    first, last = run.segments[0], run.segments[-1]
    gone = [each for each in log.segments if all(each is not kept for kept in run.segments)]
    for segment in reversed([each for each in gone if each.first_lsn >= first.first_lsn]):
        yield Step(segment.path, _why(segment) or f"it does not follow record {run.last_lsn}")
    if last.fault is not None:
        yield Step(
            last.path, _of_fault(last.fault), last.used_bytes, last.content_bytes - last.used_bytes
        )
    if run.graft is not None:
        yield run.graft
    for segment in run.mends:
        assert segment.header is not None
        end = encode_end(segment.next_lsn, segment.chain, segment.header.salt)
        cut_bytes = segment.content_bytes - segment.used_bytes
        why = f"its end frame is written again: {_why(segment)}"
        yield Step(segment.path, why, segment.used_bytes, cut_bytes, end)
    for segment in gone:
        if segment.first_lsn < first.first_lsn:
            why = _why(segment) or f"nothing follows it up to record {first.first_lsn}"
            yield Step(segment.path, why)
    for anchor in anchors:
        why = _why_not(log, run, anchor)
        if why:
            yield Step(anchor.path, why)
    yield from _step_of_durable(log, run)


def _why(segment: SegmentReport) -> str:
    fault = segment.gap or segment.fault
    return _of_fault(fault) if fault else ""


def _of_fault(fault: Fault) -> str:
    return f"byte {fault.offset}: expected {fault.expected}, found {fault.found}"


def _why_not(log: LogReport, run: _Run, anchor: Anchor) -> str:
    """Say why a snapshot or slot cannot stay; empty if it can."""
    position = anchor.position
    if anchor.fault or position is None:
        return anchor.fault or "it cannot be read"
    if position.log_id != log.log_id:
        return f"it belongs to the log {position.log_id.hex()}"
    if position.lsn > run.last_lsn:
        return f"it names record {position.lsn}, and the log ends with {run.last_lsn}"
    first_lsn = run.segments[0].first_lsn
    if position.lsn < first_lsn - 1:
        # The owner may keep a snapshot for longer than what it was followed by.
        if anchor.is_start and first_lsn == log.first_lsn:
            return ""
        return f"it names record {position.lsn}, and the log begins with {first_lsn}"
    if not _is_in(log, run, position):
        return f"it names another history at record {position.lsn}"
    return ""


def _step_of_durable(log: LogReport, run: _Run) -> Iterator[Step]:
    """`durable` may stay if it speaks of what is kept; it is written anew with the next record."""
    path = join(log.directory, DURABLE_NAME)
    if log.durable_fault is not None:
        yield Step(path, _of_fault(log.durable_fault))
    elif log.durable is not None and log.durable.lsn > run.last_lsn:
        yield Step(path, f"it claims record {log.durable.lsn}, and {run.last_lsn} is the last")


def _move_aside(file_system: FileSystem, path: str, aside: str) -> None:
    directory, _, name = path.rpartition("/")
    file_system.rename(path, join(aside, _free_name(file_system, aside, name)))
    # First where it is now, then where it was: it may be under both names, never under none.
    file_system.fsync_directory(aside)
    file_system.fsync_directory(directory)


def _cut(file_system: FileSystem, step: Step, offset: int, aside: str) -> None:
    """Copy what is to go, durably; then cut it off, and end the segment if it is to be ended."""
    name = f"{step.path.rpartition('/')[2]}.from-{offset}"
    name = _free_name(file_system, aside, name)
    fd = file_system.open(step.path, write=True)
    try:
        chunks = read_chunks(file_system, fd, offset, offset + step.size_bytes)
        replace_file(file_system, aside, name, f"{name}.tmp", chunks)
        file_system.ftruncate(fd, offset)
        if step.end:
            write_all(file_system, fd, step.end, offset)
        file_system.fsync(fd)
    finally:
        file_system.close(fd)


def _make_segment(file_system: FileSystem, step: Step, offset: int) -> None:
    directory, _, name = step.path.rpartition("/")
    fd = file_system.open(step.source) if step.source else None
    try:
        chunks = (
            read_chunks(file_system, fd, offset, offset + step.size_bytes) if fd is not None else ()
        )
        replace_file(file_system, directory, name, "rescued.tmp", chain([step.header], chunks))
    finally:
        if fd is not None:
            file_system.close(fd)


def _free_name(file_system: FileSystem, aside: str, name: str) -> str:
    """The name, with a number if a repair that was stopped has put something there under it."""
    names = set(file_system.list_directory(aside))
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}.{number}"
    return free
