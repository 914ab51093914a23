"""Opening a log: judge what is there, then repair the one thing a crash may leave, an unfinished
last frame.

All judgement comes before the first write: a log that is refused is left exactly as it was found.
The steps are numbered here as in the README.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from wal.directory import (
    DURABLE_NAME,
    RESERVE_NAME,
    find_segments,
    join,
    segment_name,
    torn_name,
)
from wal.errors import Damaged, LogFailed, NewerVersion, NotALog, WalError
from wal.filesystem import FileSystem, read_all, write_all
from wal.layout import (
    DURABLE_BYTES,
    Durable,
    decode_durable,
    encode_end,
)
from wal.segment import Rest, Segment, scan_rest


@dataclass(slots=True, kw_only=True)
class Tail:
    """The end of a sound log: the last segment, open for writing, its cursor behind the last
    frame."""

    segment: Segment
    preallocated: bool


@dataclass(slots=True)
class _Last:
    """The last frame of the last segment as it was read: where it starts and its bytes."""

    offset: int
    raw: bytes


class Recovery:
    """One opening of one directory. The caller holds the lock."""

    def __init__(
        self,
        file_system: FileSystem,
        directory: str,
        *,
        segment_bytes: int,
        needed_from_lsn: int,
        on_warning: Callable[[str], None],
    ) -> None:
        self._file_system = file_system
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._needed_from_lsn = needed_from_lsn
        self._on_warning = on_warning
        self._durable: Durable | None = None
        self._last: _Last | None = None

    def run(self) -> Tail | None:
        """Return the end of the log, or None if there is none yet.

        Raises Damaged, NotALog, NewerVersion; LogFailed if the repair could not be synced. O(bytes
        needed).
        """
        firsts = find_segments(self._file_system, self._directory)  # Step 1.
        self._durable = self._read_durable()
        if not firsts:
            self._check_nothing_lost()
            return None
        needed = self._split_needed(firsts)  # Step 2.
        self._check_unneeded(firsts[: len(firsts) - len(needed)], needed[0])
        segment = self._walk(needed)  # Steps 3 and 4.
        try:
            rest = self._judge_tail(segment)  # Step 5.
            self._check_reach(segment)  # Step 6.
            # From here on the log is sound and is written to.
            preallocated = self._cut(segment, rest)  # Step 7.
            self._secure_last_frame(segment)  # Step 8.
        except BaseException:
            segment.close()
            raise
        return Tail(segment=segment, preallocated=preallocated)

    def _read_durable(self) -> Durable | None:
        path = join(self._directory, DURABLE_NAME)
        try:
            fd = self._file_system.open(path)
        except FileNotFoundError:
            return None
        try:
            return decode_durable(read_all(self._file_system, fd, DURABLE_BYTES, 0))
        finally:
            self._file_system.close(fd)

    def _check_nothing_lost(self) -> None:
        lsn = self._durable.lsn if self._durable else 0
        lsn = max(lsn, self._needed_from_lsn - 1)
        if lsn > 0:
            raise Damaged(self._directory, 0, f"records up to {lsn}", "no segment")

    def _split_needed(self, firsts: list[int]) -> list[int]:
        """Return the segments that a replay needs, from the one with the first needed record."""
        index = sum(first <= self._needed_from_lsn for first in firsts) - 1
        if index < 0:
            path = join(self._directory, segment_name(firsts[0]))
            raise Damaged(path, 0, f"record {self._needed_from_lsn}", f"record {firsts[0]}")
        return firsts[index:]

    def _check_unneeded(self, firsts: list[int], next_first: int) -> None:
        """Look at the start and the end of each segment that is not needed; warn of what is wrong.

        Its content is not read: that would make every start cost as much as a replay from the
        beginning. A reader that goes there checks every byte.
        """
        for first, following in pairwise([*firsts, next_first]):
            try:
                segment = Segment(self._file_system, self._directory, first)
            except (Damaged, NotALog, NewerVersion, OSError) as error:
                self._on_warning(f"a segment that is not needed now: {error}")
                continue
            try:
                self._check_end(segment, following)
            except WalError as error:
                self._on_warning(f"a segment that is not needed now: {error}")
            finally:
                segment.close()

    def _check_end(self, segment: Segment, following: int) -> None:
        try:
            after = Segment(self._file_system, self._directory, following)
        except (WalError, OSError):
            return  # Its own turn will tell.
        after.close()
        end = encode_end(following, after.header.chain, segment.header.salt)
        offset = segment.size() - len(end)
        if segment.read(len(end), offset) == end:
            return
        # Not cut behind the end frame, when a crash came in between: look for it the long way.
        for _ in segment.frames():
            pass
        if segment.defect:
            raise segment.damaged(segment.defect)
        after.check_follows(segment)

    def _walk(self, firsts: list[int]) -> Segment:
        """Check every frame of the needed segments; return the last one, its cursor at its end."""
        previous: Segment | None = None
        for first in firsts:
            segment = Segment(self._file_system, self._directory, first, write=first == firsts[-1])
            try:
                if previous is not None:
                    segment.check_follows(previous)
                self._check_durable(segment, segment.lsn, segment.chain, segment.lsn)
                self._walk_segment(segment)
                if first != firsts[-1]:
                    if segment.defect:
                        raise segment.damaged(segment.defect)
                    segment.close()
            except BaseException:
                segment.close()
                raise
            previous = segment
        assert previous is not None
        return previous

    def _walk_segment(self, segment: Segment) -> None:
        self._last = None
        frame = None
        for frame in segment.frames():
            self._check_durable(segment, segment.lsn, segment.chain, frame.first_lsn + 1)
        if segment.ended:
            end = encode_end(segment.lsn, segment.chain, segment.header.salt)
            self._last = _Last(segment.offset - len(end), end)
        elif frame is not None:
            self._last = _Last(frame.offset, frame.raw)

    def _check_durable(self, segment: Segment, lsn: int, chain: int, after: int) -> None:
        """Compare with `durable` if it speaks of this place: a frame ends there, with its chain."""
        durable = self._durable
        if durable is None or not after <= durable.lsn + 1 <= lsn:
            return
        if durable.log_id_start != segment.header.log_id[:8]:
            expected = f"log id {durable.log_id_start.hex()}, as in `durable`"
            raise Damaged(segment.path, 0, expected, segment.header.log_id.hex())
        if durable.lsn + 1 != lsn or durable.chain != chain:
            expected = f"chain CRC {durable.chain:08x} at record {durable.lsn}, as in `durable`"
            found = f"{chain:08x} at record {lsn - 1}"
            raise Damaged(segment.path, segment.offset, expected, found)

    def _judge_tail(self, segment: Segment) -> Rest:
        """Decide what the bytes behind the last sound frame are. Raises Damaged if a later frame is
        among them."""
        defect = segment.defect
        rest = scan_rest(segment, segment.offset)
        if rest.later_offset is not None:
            expected = defect.expected if defect else "nothing behind the end frame"
            found = f"{defect.found if defect else 'bytes'}, and a frame at {rest.later_offset}"
            raise Damaged(segment.path, segment.offset, expected, found)
        return rest

    def _check_reach(self, segment: Segment) -> None:
        """The log must reach as far as `durable` and the caller know it to."""
        reached = segment.lsn - 1
        durable = self._durable.lsn if self._durable else 0
        known = ((durable, "`durable` covers"), (self._needed_from_lsn - 1, "the caller has"))
        for lsn, who in known:
            if reached < lsn:
                expected = f"records up to {lsn}, which {who}"
                raise Damaged(segment.path, segment.offset, expected, f"an end after {reached}")

    def _cut(self, segment: Segment, rest: Rest) -> bool:
        """Put a torn tail aside and cut it off; return whether the segment is preallocated."""
        size = segment.size()
        torn_bytes = rest.end - segment.offset
        if torn_bytes:
            name = self._put_aside(segment, rest)
            self._on_warning(
                f"{segment.path}: cut a torn tail of {torn_bytes} bytes at byte {segment.offset}; "
                f"it was never acknowledged; a copy is in {name}"
            )
        if torn_bytes or (segment.ended and size > segment.offset):
            self._file_system.ftruncate(segment.fd, segment.offset)
            size = segment.offset
        if not segment.ended and size < self._segment_bytes:
            try:
                self._file_system.fallocate(segment.fd, self._segment_bytes)
                size = self._segment_bytes
            except OSError as error:
                self._on_warning(f"{segment.path}: no room to preallocate: {error}")
        return size >= self._segment_bytes

    def _put_aside(self, segment: Segment, rest: Rest) -> str:
        names = set(self._file_system.list_directory(self._directory))
        number = 1
        while torn_name(segment.lsn, number) in names:
            number += 1
        name = torn_name(segment.lsn, number)
        data = segment.read(rest.end - segment.offset, segment.offset)
        try:
            self._write_copy(name, data)
        except OSError as error:
            if error.errno != errno.ENOSPC or RESERVE_NAME not in names:
                raise
            # A log must open on a full disk, and this is what a reserve is for.
            self._file_system.unlink(join(self._directory, RESERVE_NAME))
            self._write_copy(name, data)
        return name

    def _write_copy(self, name: str, data: bytes) -> None:
        path = join(self._directory, name)
        fd = self._file_system.open(path, write=True, create=True)
        try:
            write_all(self._file_system, fd, data, 0)
            _sync(self._file_system.fsync, fd, path)
        finally:
            self._file_system.close(fd)

    def _secure_last_frame(self, segment: Segment) -> None:
        """Write the last frame again and sync it, and the cut, before anyone acts on it.

        It may be in the page cache only: synced by nobody if the process died, and not even dirty
        any more if an fsync failed, so that syncing without writing would prove nothing.
        """
        if self._last is not None:
            write_all(self._file_system, segment.fd, self._last.raw, self._last.offset)
        _sync(self._file_system.fsync, segment.fd, segment.path)
        try:
            self._file_system.fsync_directory(self._directory)
        except OSError as error:
            raise LogFailed(self._directory, "fsync", str(error)) from error


def _sync(call: Callable[[int], None], fd: int, path: str) -> None:
    try:
        call(fd)
    except OSError as error:
        raise LogFailed(path, "fsync", str(error)) from error
