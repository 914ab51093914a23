"""Opening a log: judge what is there, then repair the one thing a crash may leave, an unfinished
last frame.

All judgement comes before the first write: a log that is refused is left exactly as it was found.
The steps are numbered here as in the README.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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
from wal.layout import DURABLE_BYTES, Frame, decode_durable, encode_end
from wal.record import Position
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


class _Claim(NamedTuple):
    """Somebody knows the log to hold everything up to record `lsn`, with this chain CRC at the end
    of the frame that holds it."""

    lsn: int
    log_id_start: bytes
    chain: int
    who: str


class Recovery:
    """One opening of one directory. The caller holds the lock."""

    def __init__(
        self,
        file_system: FileSystem,
        directory: str,
        *,
        segment_bytes: int,
        after: Position | None,
        known: Sequence[Position],
        on_warning: Callable[[str], None],
    ) -> None:
        self._file_system = file_system
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._after = after
        self._on_warning = on_warning
        # Those that the walk has not come to yet, from step 3 on in order.
        self._claims = deque(
            _Claim(position.lsn, position.log_id, position.chain, "a stored position")
            for position in known
            if position.lsn  # Before the first record nothing can be lost.
        )
        if after is not None:
            claim = _Claim(after.lsn, after.log_id, after.chain, "the owner's position")
            self._claims.append(claim)
        self._last: _Last | None = None

    def run(self) -> Tail | None:
        """Return the end of the log, or None if there is none yet.

        Raises Damaged, NotALog, NewerVersion; LogFailed if the repair could not be synced. O(bytes
        needed).
        """
        firsts = find_segments(self._file_system, self._directory)  # Step 1.
        self._read_durable()
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

    def _read_durable(self) -> None:
        path = join(self._directory, DURABLE_NAME)
        try:
            fd = self._file_system.open(path)
        except FileNotFoundError:
            return
        try:
            durable = decode_durable(read_all(self._file_system, fd, DURABLE_BYTES, 0))
        finally:
            self._file_system.close(fd)
        if durable is not None and durable.lsn:
            self._claims.append(_Claim(*durable, "`durable`"))

    def _check_nothing_lost(self) -> None:
        for claim in self._claims:
            expected = f"records up to {claim.lsn}, as in {claim.who}"
            raise Damaged(self._directory, 0, expected, "no segment")

    def _split_needed(self, firsts: list[int]) -> list[int]:
        """Return the segments that a replay needs, from the one with the first needed record."""
        lsn = self._after.lsn + 1 if self._after else 1
        index = sum(first <= lsn for first in firsts) - 1
        if index < 0:
            path = join(self._directory, segment_name(firsts[0]))
            raise Damaged(path, 0, f"record {lsn}", f"record {firsts[0]}")
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
                else:
                    self._begin_claims(segment)
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
        last: Frame | None = None
        for frame in segment.frames():
            self._check_claims(segment)
            last = frame
        if segment.ended:
            end = encode_end(segment.lsn, segment.chain, segment.header.salt)
            self._last = _Last(segment.offset - len(end), end)
        elif last is not None:
            self._last = _Last(last.offset, last.raw)

    def _begin_claims(self, segment: Segment) -> None:
        """Check all log ids, and what is claimed of the place where the first needed segment
        starts."""
        for claim in self._claims:
            if not segment.header.log_id.startswith(claim.log_id_start):
                expected = f"log id {claim.log_id_start.hex()}, as in {claim.who}"
                raise Damaged(segment.path, 0, expected, segment.header.log_id.hex())
        # What lies before it is not read.
        self._claims = deque(sorted(each for each in self._claims if each.lsn + 1 >= segment.lsn))
        self._check_claims(segment)

    def _check_claims(self, segment: Segment) -> None:
        """Check what is claimed of the frame in front of the cursor."""
        while self._claims and self._claims[0].lsn < segment.lsn:
            claim = self._claims.popleft()
            if claim.chain != segment.chain:
                expected = f"chain CRC {claim.chain:08x} at record {claim.lsn}, as in {claim.who}"
                found = f"{segment.chain:08x} at the end of its frame"
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
        """The log must reach as far as anyone knows it to."""
        reached = segment.lsn - 1
        for claim in self._claims:
            expected = f"records up to {claim.lsn}, as in {claim.who}"
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
