"""A look at every byte of a log: what each segment holds, and everything that is wrong.

An opening stops at the first thing that is wrong, since it must not go on; this goes on, since a
person wants to know the whole. It judges bytes as an opening does (the steps in README.md), reads
only, and may look at a log that is being written: what is there by then is looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection
from itertools import pairwise

from wal.directory import DURABLE_NAME, find_segments, join, segment_name
from wal.errors import Damaged, NotALog, RecordsGone
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_all
from wal.layout import (
    DURABLE_BYTES,
    FRAME_HEADER_BYTES,
    Durable,
    Frame,
    decode_durable,
    first_chain,
    frame_records,
)
from wal.record import Record
from wal.report import Fault, LogReport, Mark, SegmentReport
from wal.salvage import find_frame
from wal.segment import READ_BYTES_MAX, Segment, scan_rest

OnRecords = Callable[[SegmentReport, list[Record]], None]
OnSegment = Callable[[SegmentReport], None]


def _ignore(*_: object) -> None:
    pass


def inspect_log(
    directory: str,
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
    marks: Collection[int] = (),
    on_records: OnRecords = _ignore,
    on_segment: OnSegment = _ignore,
) -> LogReport:
    """Look at every byte of the segments in order; report what is there and what is wrong.

    `on_records` is called with the sound records of this log as they are met, `on_segment` behind
    each segment. Raises NotALog (no segment), NewerVersion, RecordsGone (the log's owner removed a
    segment that was still to be looked at: look again). O(bytes).
    """
    # First `durable`, then the frames: whatever it covers must then be there.
    durable = read_durable(directory, file_system)
    try:
        firsts = find_segments(file_system, directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotALog(directory, "no such directory") from error
    if not firsts:
        raise NotALog(directory, "no segment in the directory")
    log_id = _log_id(file_system, directory, firsts, durable)
    report = LogReport(directory=directory, log_id=log_id, durable=durable)
    asked = sorted({*marks, durable.lsn} if durable else set(marks))
    for first, following in pairwise([*firsts, None]):
        assert first is not None
        walk = _Walk(file_system, report, asked, on_records)
        segment = walk.run(first, is_last=following is None)
        report.segments.append(segment)
        on_segment(segment)
    report.durable_fault = _durable_fault(report)
    return report


def read_durable(directory: str, file_system: FileSystem = OS_FILE_SYSTEM) -> Durable | None:
    """Return what `durable` says; None if it is absent or not whole, which is no fault."""
    try:
        fd = file_system.open(join(directory, DURABLE_NAME))
    except OSError:
        return None
    try:
        # One byte more, to see if it is too long.
        return decode_durable(read_all(file_system, fd, DURABLE_BYTES + 1, 0))
    except OSError:
        return None
    finally:
        file_system.close(fd)


def _log_id(
    file_system: FileSystem, directory: str, firsts: list[int], durable: Durable | None
) -> bytes:
    """The id that most segments have; if as many have another, the one that `durable` names."""
    votes: Counter[bytes] = Counter()
    for first in firsts:
        try:
            segment = Segment(file_system, directory, first)
        except (Damaged, NotALog, FileNotFoundError):
            continue
        segment.close()
        votes[segment.header.log_id] += 2
    for log_id in votes:
        if durable is not None and log_id.startswith(durable.log_id_start):
            votes[log_id] += 1
    return votes.most_common(1)[0][0] if votes else b""


class _Walk:
    """One segment of an inspection."""

    def __init__(
        self, file_system: FileSystem, log: LogReport, asked: list[int], on_records: OnRecords
    ) -> None:
        self._file_system = file_system
        self._log = log
        self._asked = asked
        self._on_records = on_records

    def run(self, first_lsn: int, *, is_last: bool) -> SegmentReport:
        """Look at it. Raises NewerVersion, RecordsGone."""
        directory = self._log.directory
        path = join(directory, segment_name(first_lsn))
        report = SegmentReport(path=path, first_lsn=first_lsn, size_bytes=0, next_lsn=first_lsn)
        try:
            segment = Segment(self._file_system, directory, first_lsn)
        except FileNotFoundError as error:
            kept = find_segments(self._file_system, directory)
            raise RecordsGone(directory, first_lsn, kept[0] if kept else 0) from error
        except (Damaged, NotALog) as error:
            report.size_bytes = self._size(path)
            expected = error.expected if isinstance(error, Damaged) else "a segment header"
            report.fault = Fault(path, 0, self._next_lsn(first_lsn), expected, error.found)
            return report
        try:
            report.header, report.chain = segment.header, segment.chain
            report.used_bytes = segment.offset
            report.gap = self._check_follows(segment)
            self._walk_frames(segment, report, is_last=is_last)
            report.size_bytes = segment.size()
            _look_behind(segment, report)
        finally:
            segment.close()
        return report

    def _size(self, path: str) -> int:
        fd = self._file_system.open(path)
        try:
            return self._file_system.size(fd)
        finally:
            self._file_system.close(fd)

    def _before(self) -> SegmentReport | None:
        """The segment before, if it is a sound one of this log."""
        before = self._log.segments[-1] if self._log.segments else None
        if before is None or before.fault is not None or before.log_id != self._log.log_id:
            return None
        return before

    def _next_lsn(self, otherwise: int) -> int:
        """The record that the segment before leads one to expect."""
        before = self._before()
        return before.next_lsn if before else otherwise

    def _check_follows(self, segment: Segment) -> Fault | None:
        """Compare its header with the log, and with the segment before if that is sound."""
        header, path = segment.header, segment.path
        lsn = self._next_lsn(header.first_lsn)
        if header.log_id != self._log.log_id:
            expected = f"log id {self._log.log_id.hex()}"
            return Fault(path, 0, lsn, expected, header.log_id.hex())
        if header.first_lsn != lsn:
            return Fault(path, 0, lsn, f"record {lsn}", f"record {header.first_lsn}")
        before = self._before()
        chain = before.chain if before else header.chain
        if lsn == 1:
            chain = first_chain(header.log_id)
        if header.chain != chain:
            return Fault(path, 0, lsn, f"chain CRC {chain:08x}", f"{header.chain:08x}")
        return None

    def _walk_frames(self, segment: Segment, report: SegmentReport, *, is_last: bool) -> None:
        try:
            self._take_frames(segment, report)
            report.fault = self._judge_end(segment, report) if is_last else _unended(segment)
        except Damaged as error:  # The disk cannot read, or lengths do not fit.
            lsn = report.next_lsn
            report.fault = Fault(error.path, error.offset, lsn, error.expected, error.found)

    def _judge_end(self, segment: Segment, report: SegmentReport) -> Fault | None:
        """Say what lies behind the last frame of the log: nothing, a torn tail, or damage."""
        place = -1
        while True:
            rest = scan_rest(segment, segment.offset)
            if rest.later_offset is None:
                report.torn_bytes = rest.end - segment.offset
                return None
            if place == segment.offset:
                defect = segment.defect
                expected = defect.expected if defect else "nothing behind the end frame"
                found = defect.found if defect else "bytes"
                return _fault(segment, expected, f"{found}, and a frame at {rest.later_offset}")
            # Perhaps it was written since we looked. Look again, once for each place.
            place = segment.offset
            self._take_frames(segment, report)

    def _take_frames(self, segment: Segment, report: SegmentReport) -> None:
        """Take the sound frames from the cursor on. Raises Damaged."""
        for frame in segment.frames():
            self._take_frame(frame, report)
        report.is_ended = segment.ended
        report.used_bytes = segment.offset

    def _take_frame(self, frame: Frame, report: SegmentReport) -> None:
        # Before anything of it counts: lengths that do not fit the body are damage, too.
        lists = list(frame_records(frame, report.path))
        is_own = report.log_id == self._log.log_id
        for records in lists if is_own else ():
            self._on_records(report, records)
        report.next_lsn = frame.first_lsn + frame.record_count
        report.chain = frame.chain
        report.used_bytes = frame.offset + frame.size_bytes
        report.frames += 1
        at = bisect_left(self._asked, frame.first_lsn) if is_own else len(self._asked)
        while at < len(self._asked) and self._asked[at] < report.next_lsn:
            end = Mark(report.next_lsn - 1, frame.chain, report.first_lsn, report.used_bytes)
            self._log.marks[self._asked[at]] = end
            at += 1


def _look_behind(segment: Segment, report: SegmentReport) -> None:
    """Say what more a segment holds than its sound frames."""
    report.content_bytes = report.used_bytes + report.torn_bytes
    report.known_lsn = report.next_lsn - 1
    if report.fault is None:
        return
    base = report.used_bytes
    try:
        found = find_frame(segment, report.used_bytes, report.next_lsn)
        while found is not None:
            at, (_, body_bytes, first_lsn, count, _) = found
            report.known_lsn = first_lsn + count - 1
            found = find_frame(segment, at + FRAME_HEADER_BYTES + body_bytes, first_lsn + count)
        while chunk := segment.read(READ_BYTES_MAX, base):
            used = len(chunk.rstrip(b"\0"))
            report.content_bytes = base + used if used else report.content_bytes
            base += len(chunk)
    except Damaged:
        report.content_bytes = segment.size()  # What the disk cannot read may be anything.


def _fault(segment: Segment, expected: str, found: str) -> Fault:
    return Fault(segment.path, segment.offset, segment.lsn, expected, found)


def _unended(segment: Segment) -> Fault | None:
    """Whatever stops a segment short of its end frame is damage when another one follows."""
    defect = segment.defect
    return _fault(segment, defect.expected, defect.found) if defect else None


def _durable_fault(log: LogReport) -> Fault | None:
    """Compare `durable` with what was found. A place that faults hide is not judged."""
    durable = log.durable
    if durable is None or durable.lsn == 0:
        return None
    path = join(log.directory, DURABLE_NAME)

    def fault(lsn: int, expected: str, found: str) -> Fault:
        return Fault(path, 0, lsn, expected, found)

    if not log.log_id.startswith(durable.log_id_start):
        return fault(log.next_lsn, f"log id {log.log_id[:8].hex()}", durable.log_id_start.hex())
    mark = log.marks.get(durable.lsn)
    if mark is not None:
        if mark[:2] == (durable.lsn, durable.chain):
            return None
        expected = f"chain CRC {mark.chain:08x} at record {mark.lsn}, as in the log"
        return fault(durable.lsn, expected, f"{durable.chain:08x} at record {durable.lsn}")
    if durable.lsn >= log.next_lsn:
        found = f"the claim that record {durable.lsn} is durable"
        return fault(log.next_lsn, f"a log that ends with record {log.next_lsn - 1}", found)
    return None
