"""Copying a log to another directory: a prefix of it, whole and checked, also while it is written.

The copy is a log like any other, up to a record that was durable when the copying began: one that
`durable` covers, or, where that says nothing, one with another frame behind it. What is there from
the last time is not copied again: a segment that has ended does not change. Each file is replaced
only when all of the new one was read, checked and synced, so that whatever happens to the source or
on the way, the target holds what it held before, or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from wal.directory import DURABLE_NAME, StrPath, find_segments, join, segment_name
from wal.errors import Damaged, NotALog, PositionMismatch, RecordsGone, WalError
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_chunks, replace_file
from wal.inspect import read_durable
from wal.layout import (
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Durable,
    Frame,
    SegmentHeader,
    encode_durable,
    encode_end,
)
from wal.reader import Reader
from wal.record import Position
from wal.segment import Segment, scan_rest
from wal.snapshot import check_snapshot, open_snapshot

_ATTEMPTS_MAX = 5
"""A log's owner removes old segments rarely; what is overtaken so often has another fault."""

_DURABLE_READS_MAX = 5
"""Writing it takes a microsecond each flush; who meets that so often meets a file that is torn."""

_TEMPORARY_NAME = "backup.tmp"


class BackupRefused(WalError):
    """The target holds something else, which a copy of this log would spoil."""


class CopiedFile(NamedTuple):
    """A file of the copy; `is_new`: it was not there in this form before."""

    name: str
    size_bytes: int
    is_new: bool


class LogCopy(NamedTuple):
    """What the copy of a log holds."""

    first_lsn: int
    position: Position
    files: list[CopiedFile]


def back_up_log(
    source: StrPath,
    target: StrPath,
    *,
    previous: Position | None = None,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> LogCopy:
    """Copy what is durable of the log in `source` to `target`, as far as it is not there yet.

    `previous`: where the last copy ended; it must be a part of the log still. Segments that the
    source has removed since stay in the target. Raises BackupRefused, NotALog, NewerVersion,
    Damaged (of the source; the target is as it was, or ahead), OSError. O(bytes that are new).
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        copying = _Copying(str(source), str(target), file_system)
        try:
            return copying.run(previous)
        except (FileNotFoundError, RecordsGone):
            # The owner removed a segment meanwhile: what is left is another list, and what was
            # copied of the old one may not lead there.
            copying.undo()
            if attempt == _ATTEMPTS_MAX:
                raise
    raise AssertionError("the last attempt returns or raises")


def back_up_snapshot(
    source: StrPath, target: StrPath, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> CopiedFile:
    """Copy a snapshot, checked, unless the target has it, whole. Raises as `open_snapshot`."""
    check_snapshot(source, lsn, file_system=file_system)  # All of it, before any of it is copied.
    with open_snapshot(source, lsn, file_system=file_system) as snapshot:
        name = snapshot.path.rpartition("/")[2]
        fd = file_system.open(snapshot.path)
        try:
            head = file_system.pread(fd, SEGMENT_HEADER_BYTES, 0)
            there = _size_and_head(file_system, join(str(target), name))
            if there == (snapshot.size_bytes, head):
                with suppress(Damaged):
                    check_snapshot(target, lsn, file_system=file_system)
                    return CopiedFile(name, snapshot.size_bytes, is_new=False)
            chunks = read_chunks(file_system, fd, 0, snapshot.size_bytes)
            replace_file(file_system, str(target), name, _TEMPORARY_NAME, chunks)
        finally:
            file_system.close(fd)
    check_snapshot(target, lsn, file_system=file_system)
    return CopiedFile(name, snapshot.size_bytes, is_new=True)


class _Copying:
    """One attempt."""

    def __init__(self, source: str, target: str, file_system: FileSystem) -> None:
        self._source = source
        self._target = target
        self._file_system = file_system
        self._reached: Position | None = None
        """The end of what was copied, or was there."""
        self._durable: Durable | None = None
        self._limit_lsn: int | None = None
        """Up to here records count; None: `durable` says nothing."""
        self._previous_lsn = 0
        """Up to here they were copied before, when they were durable."""
        self._made: list[str] = []
        """The files that were not there before under any form."""

    def undo(self) -> None:
        """Remove what this attempt has made, as if it had not begun. Raises OSError."""
        for name in self._made:
            self._file_system.unlink(join(self._target, name))
        if self._made:
            self._file_system.fsync_directory(self._target)

    def run(self, previous: Position | None) -> LogCopy:
        file_system = self._file_system
        # First `durable`, then the segments: whatever it covers must then be there.
        durable = self._durable = self._read_durable()
        try:
            firsts = find_segments(file_system, self._source)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotALog(self._source, "no such directory") from error
        if not firsts:
            raise NotALog(self._source, "no segment in the directory")
        file_system.make_directory(self._target)
        older = self._check_target(firsts, previous)
        files = [
            CopiedFile(segment_name(first), self._target_size(first), is_new=False)
            for first in older
        ]
        self._previous_lsn = previous.lsn if previous else 0
        if durable is not None:
            # After a power loss it may be older than what was copied before that.
            self._limit_lsn = max(durable.lsn, self._previous_lsn)
        limit_lsn = self._limit_lsn
        for at, first in enumerate(firsts):
            following = firsts[at + 1] if at + 1 < len(firsts) else None
            if limit_lsn is not None and first > limit_lsn and at:
                break  # It was begun after we looked.
            files.append(self._take_segment(first, following))
        position = self._reached
        assert position is not None
        self._write_durable(position)
        return LogCopy((older or firsts)[0], position, files)

    def _read_durable(self) -> Durable | None:
        """Read `durable`, again if it was being written just then."""
        for _ in range(_DURABLE_READS_MAX):
            durable = read_durable(self._source, self._file_system)
            if durable is not None:
                return durable
        return None

    def _check_target(self, firsts: Sequence[int], previous: Position | None) -> list[int]:
        """Check that the target holds a part of this log; return its segments that are older."""
        there = find_segments(self._file_system, self._target)
        strange = [first for first in there if first >= firsts[0] and first not in firsts]
        if strange:
            path = join(self._target, segment_name(strange[0]))
            raise BackupRefused(f"{path}: the log has no such segment; name another target")
        older = [first for first in there if first < firsts[0]]
        if older:
            segment = Segment(self._file_system, self._source, firsts[0])
            segment.close()
            if not self._leads_to(older[-1], segment.header):
                raise BackupRefused(
                    f"{self._target}: its records are older than those of the log and there is a "
                    "gap in between; name another target"
                )
        if previous is not None:
            self._check_previous(previous, firsts[0])
        return older

    def _check_previous(self, previous: Position, first_lsn: int) -> None:
        if previous.lsn < first_lsn:
            return  # It is in the older segments, which lead here.
        try:
            Reader(self._source, position=previous, file_system=self._file_system).close()
        except PositionMismatch as error:
            self._check_readable(previous.lsn)
            raise BackupRefused(
                f"{self._target}: it ends with record {previous.lsn} of another history, as after "
                f"a repair or a restore ({error}); name another target"
            ) from error

    def _check_readable(self, lsn: int) -> None:
        """Raise Damaged if a record that `durable` covers can't be read."""
        if self._durable is None or self._durable.lsn < lsn:
            return
        firsts = find_segments(self._file_system, self._source)
        first = max(first for first in firsts if first <= lsn)
        segment = Segment(self._file_system, self._source, first)
        try:
            for _ in segment.frames():
                pass
            if segment.defect and segment.lsn <= lsn:
                raise segment.damaged(segment.defect)
        finally:
            segment.close()

    def _take_segment(self, first: int, following_first: int | None) -> CopiedFile:
        segment = Segment(self._file_system, self._source, first)
        try:
            self._check_follows(segment)
            if following_first is not None:
                following = Segment(self._file_system, self._source, following_first)
                following.close()
                if self._is_there(segment, following.header):
                    header = following.header
                    self._reached = Position(header.log_id, header.first_lsn - 1, header.chain)
                    return CopiedFile(segment_name(first), segment.size(), is_new=False)
            name, before = segment_name(first), self._target_size(first)
            chunks = self._checked_frames(segment, is_last=following_first is None)
            size = replace_file(self._file_system, self._target, name, _TEMPORARY_NAME, chunks)
            if before < 0:
                self._made.append(name)
            return CopiedFile(name, size, is_new=size != before)
        finally:
            segment.close()

    def _check_follows(self, segment: Segment) -> None:
        reached = self._reached
        if reached is None:
            return
        expected = (reached.log_id, reached.lsn + 1, reached.chain)
        header = segment.header
        if (header.log_id, header.first_lsn, header.chain) != expected:
            raise Damaged(
                segment.path,
                0,
                f"log {reached.log_id.hex()}, record {reached.lsn + 1}, chain {reached.chain:08x}",
                f"log {header.log_id.hex()}, record {header.first_lsn}, chain {header.chain:08x}",
            )

    def _checked_frames(self, segment: Segment, *, is_last: bool) -> Iterator[bytes]:
        """Yield the bytes of a segment up to the limit; every frame is checked. Raises Damaged."""
        limit_lsn = self._limit_lsn
        yield segment.read(SEGMENT_HEADER_BYTES, 0)
        header = segment.header
        self._reached = Position(header.log_id, header.first_lsn - 1, header.chain)
        # Without `durable` the last frame may not have been synced, unless another one follows it.
        held: Frame | None = None
        for frame in segment.frames():
            if limit_lsn is not None and segment.lsn > limit_lsn + 1:
                return
            self._check_durable(segment, frame)
            if held is not None:
                yield self._take_frame(segment, held)
            held = frame
            if limit_lsn is not None or not is_last or segment.lsn <= self._previous_lsn + 1:
                yield self._take_frame(segment, held)
                held = None
        if held is not None and _is_followed(segment):
            yield self._take_frame(segment, held)
        # Before the target's file is replaced by this one:
        if segment.defect and (not is_last or scan_rest(segment, segment.offset).later_offset):
            raise segment.damaged(segment.defect)
        if is_last and limit_lsn is not None and segment.lsn <= limit_lsn:
            expected = f"records up to {limit_lsn}, which `durable` covers"
            found = f"an end after {segment.lsn - 1}"
            raise Damaged(segment.path, segment.offset, expected, found)
        if segment.ended:
            yield encode_end(segment.lsn, segment.chain, header.salt)

    def _take_frame(self, segment: Segment, frame: Frame) -> bytes:
        last_lsn = frame.first_lsn + frame.record_count - 1
        self._reached = Position(segment.header.log_id, last_lsn, frame.chain)
        return frame.raw

    def _check_durable(self, segment: Segment, frame: Frame) -> None:
        durable = self._durable
        if durable is None or not frame.first_lsn <= durable.lsn < segment.lsn:
            return
        names = segment.header.log_id.startswith(durable.log_id_start)
        if not names or (durable.lsn + 1, durable.chain) != (segment.lsn, frame.chain):
            path = join(self._source, DURABLE_NAME)
            found = f"chain CRC {durable.chain:08x} at record {durable.lsn}"
            expected = f"chain CRC {frame.chain:08x} at record {segment.lsn - 1}, as in the log"
            raise Damaged(path, 0, expected, found)

    def _is_there(self, segment: Segment, following: SegmentHeader) -> bool:
        """Whether the target has all of a segment that has ended."""
        there = _size_and_head(self._file_system, join(self._target, segment_name(segment.lsn)))
        head = segment.read(SEGMENT_HEADER_BYTES, 0)
        return there == (segment.size(), head) and self._leads_to(segment.lsn, following)

    def _leads_to(self, first: int, following: SegmentHeader) -> bool:
        """Whether a segment of the target ends where another one begins."""
        segment = Segment(self._file_system, self._target, first)
        try:
            if segment.header.log_id != following.log_id:
                return False
            end = encode_end(following.first_lsn, following.chain, segment.header.salt)
            return segment.read(len(end), segment.size() - FRAME_HEADER_BYTES) == end
        finally:
            segment.close()

    def _target_size(self, first: int) -> int:
        there = _size_and_head(self._file_system, join(self._target, segment_name(first)))
        return there[0] if there else -1

    def _write_durable(self, position: Position) -> None:
        data = encode_durable(position.lsn, position.log_id, position.chain)
        replace_file(self._file_system, self._target, DURABLE_NAME, _TEMPORARY_NAME, [data])


def _is_followed(segment: Segment) -> bool:
    """Whether something sound is behind the last sound frame, which was synced then."""
    defect = segment.defect
    return segment.ended or (defect is not None and defect.header_lsn == segment.lsn)


def _size_and_head(file_system: FileSystem, path: str) -> tuple[int, bytes] | None:
    try:
        fd = file_system.open(path)
    except FileNotFoundError:
        return None
    try:
        return file_system.size(fd), file_system.pread(fd, SEGMENT_HEADER_BYTES, 0)
    finally:
        file_system.close(fd)
