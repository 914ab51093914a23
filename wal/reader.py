"""Reading a log that another process may be writing, at one's own pace.

A reader takes no lock, writes nothing, maps nothing and hands out only what is durable: a frame
counts when something follows it (the next one is written only after it was synced) or when the file
`durable` covers it. What does not count yet is read again, from the same offset, next time: it may
still change.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

from wal.directory import DURABLE_NAME, StrPath, find_segments, join
from wal.errors import Damaged, NotALog, PositionMismatch, RecordsGone, WalError
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_all
from wal.layout import DURABLE_BYTES, Frame, decode_durable, frame_records
from wal.record import Position, Record
from wal.segment import Segment

READ_BYTES_MAX = 64 << 20
"""What one `read` returns at most, give or take a frame: a reader that is far behind must not hold
the whole log in memory."""

GATHER_BYTES = 1 << 20
"""How much is split into records at a time, so that `read(10)` does not pay for 64 MiB."""


ITERATE_RECORDS = 4096
"""How many records an iteration takes at a time: few enough to be cheap to hold."""


class _Ready(NamedTuple):
    """A durable frame, and its records as they are split off."""

    frame: Frame
    lists: Iterator[list[Record]]


class Reader:
    """Follows a log. Not thread-safe."""

    def __init__(
        self,
        directory: StrPath,
        *,
        file_system: FileSystem = OS_FILE_SYSTEM,
        from_lsn: int | None = None,
        position: Position | None = None,
    ) -> None:
        """Begin with the oldest record that is kept, with record `from_lsn`, or behind a position
        that an earlier reader stored.

        A `from_lsn` that the log has not reached yet is waited for; a position must be there.
        Only the segment that holds the place is opened.

        Raises NotALog (no log in the directory), RecordsGone, PositionMismatch, NewerVersion,
        Damaged. O(one segment).
        """
        self._file_system = file_system
        self._directory = os.fspath(directory)
        self._durable_fd: int | None = None
        self._durable_lsn = 0
        self._ready: deque[_Ready] = deque()
        self._ready_bytes = 0
        # Why nothing is read any more, told once what is sound has been handed out.
        self._refusal: WalError | None = None
        self._split: list[Record] = []  # Records of the first ready frame,
        self._taken = 0  # and how many of them were handed out.
        if position is not None:
            from_lsn = position.lsn + 1
        self._segment = self._open_first(from_lsn)
        # Records up to here are passed over.
        self._skip_lsn = (self._segment.lsn if from_lsn is None else from_lsn) - 1
        try:
            self._seek(position)
        except BaseException:
            self.close()
            raise

    @property
    def log_id(self) -> bytes:
        """The 16 bytes that name the log."""
        return self._segment.header.log_id

    @property
    def position(self) -> Position:
        """The position of the last record handed out (or, at first, of where it starts); to be
        stored and resumed from."""
        return self._position

    def find_durable(self) -> int:
        """Return how far the log is durable now, as far as the file `durable` tells; 0: unknown.

        Records up to there can be read. A reader that wants to end while the log is written has to
        know where.
        """
        self._read_durable()
        return self._durable_lsn

    def read(self, max_records: int | None = None) -> list[Record]:
        """Return the next durable records, at most about 64 MiB of them; an empty list: there are
        no more for now.

        Raises Damaged, RecordsGone.
        """
        records: list[Record] = []
        size = 0
        while size < READ_BYTES_MAX and (max_records is None or len(records) < max_records):
            if self._taken == len(self._split) and not self._has_more(bool(records)):
                break
            wanted = None if max_records is None else self._taken + max_records - len(records)
            part = self._split[self._taken : wanted]
            records += part
            self._taken += len(part)
            frame = self._ready[0].frame
            self._position = Position(self.log_id, part[-1].lsn, frame.chain)
            size += frame.size_bytes * len(part) // frame.record_count
        return records

    def __iter__(self) -> Iterator[Record]:
        """Iterate over what is available; ends when there is no more for now."""
        while records := self.read(ITERATE_RECORDS):
            yield from records

    def close(self) -> None:
        """Close all files. Idempotent."""
        self._segment.close()
        fd, self._durable_fd = self._durable_fd, None
        if fd is not None:
            self._file_system.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_first(self, lsn: int | None) -> Segment:
        """Open the segment that holds the record (None: the oldest one)."""
        while True:
            try:
                firsts = find_segments(self._file_system, self._directory)
            except FileNotFoundError as error:
                raise NotALog(self._directory, "no such directory") from error
            if not firsts:
                raise NotALog(self._directory, "no segment in the directory")
            wanted = firsts[0] if lsn is None else lsn
            index = sum(first <= wanted for first in firsts) - 1
            if index < 0:
                raise RecordsGone(self._directory, wanted, firsts[0])
            # Removed since we looked? Look again: each round finds fewer, and never none.
            with suppress(FileNotFoundError):
                return Segment(self._file_system, self._directory, firsts[index])

    def _seek(self, position: Position | None) -> None:
        """Move the cursor to the frame that holds the record after `_skip_lsn`."""
        segment, lsn = self._segment, self._skip_lsn
        if position is not None and position.log_id != self.log_id:
            expected = f"log id {position.log_id.hex()}"
            raise PositionMismatch(self._directory, expected, self.log_id.hex())
        chain, reached = segment.chain, segment.lsn - 1
        if reached < lsn:
            before = chain
            for frame in segment.frames():
                chain, reached = segment.chain, min(segment.lsn - 1, lsn)
                if segment.lsn > lsn + 1:
                    segment.rewind(frame, before)  # The record is in the middle of the frame.
                if reached == lsn:
                    break
                before = chain
            else:
                # Not there yet. The last frame may still change, so nothing is behind us for good.
                segment.rewind_to_start()
        self._position = Position(self.log_id, reached, chain)
        if position is not None and self._position != position:
            expected = f"chain CRC {position.chain:08x} at record {lsn}"
            found = f"{chain:08x} at record {reached}"
            raise PositionMismatch(segment.path, expected, found)

    def _has_more(self, has_some: bool) -> bool:
        """Split off more records; an error waits for the next call while there are some."""
        try:
            return self._split_more()
        except WalError as error:
            # What lies behind the place does not count any more.
            self._ready.clear()
            self._refusal = error
            if not has_some:
                raise
            return False

    def _split_more(self) -> bool:
        """Split off more records; False: there are no more for now."""
        while True:
            if not self._ready:
                self._gather_sound()
                if not self._ready:
                    return False
            frame, lists = self._ready[0]
            split = next(lists, None)
            if split is not None:
                self._split, self._taken = split, 0
                return True
            self._ready.popleft()
            self._ready_bytes -= frame.size_bytes

    def _gather_sound(self) -> None:
        """Gather; what is sound in front of a damaged place comes before the error."""
        if self._refusal is not None:
            raise self._refusal
        try:
            self._gather()
        except WalError as error:
            self._refusal = error
            if not self._ready:
                raise

    def _gather(self) -> None:
        """Get more durable frames ready, if there are any."""
        suspect: tuple[str, int] | None = None
        while self._ready_bytes < GATHER_BYTES:
            # First `durable`, then the frames: whatever it covers must then be there.
            self._read_durable()
            self._walk()
            segment = self._segment
            if self._ready_bytes >= GATHER_BYTES or (segment.ended and self._enter_next()):
                continue
            proof = self._find_proof(segment.lsn)
            if proof is None:
                return
            # Something says that there is more. Written just now, since we looked? Look again,
            # once.
            place = (segment.path, segment.offset)
            if place == suspect:
                self._refuse(proof)
            suspect = place

    def _walk(self) -> None:
        """Take the durable frames from the cursor on; leave the cursor at the first one that does
        not count yet."""
        segment = self._segment
        held: Frame | None = None
        before = segment.chain  # The chain in front of the held frame.
        for frame in segment.frames():
            if held is not None:
                self._accept(held)
                before = held.chain
            held = frame
            if segment.lsn <= self._durable_lsn + 1:
                self._accept(frame)
                held, before = None, frame.chain
            if self._ready_bytes >= GATHER_BYTES:
                break
        if held is None:
            return
        defect = segment.defect
        if segment.ended or (defect is not None and defect.header_lsn == segment.lsn):
            self._accept(held)
        else:
            segment.rewind(held, before)

    def _accept(self, frame: Frame) -> None:
        last_lsn = frame.first_lsn + frame.record_count - 1
        if last_lsn <= self._skip_lsn:
            self._position = Position(self.log_id, last_lsn, frame.chain)
            return
        skip = max(0, self._skip_lsn + 1 - frame.first_lsn)
        self._ready.append(_Ready(frame, frame_records(frame, self._segment.path, skip)))
        self._ready_bytes += frame.size_bytes

    def _enter_next(self) -> bool:
        try:
            following = Segment(self._file_system, self._directory, self._segment.lsn)
        except FileNotFoundError:
            return False
        try:
            following.check_follows(self._segment)
        except BaseException:
            following.close()
            raise
        self._segment.close()
        self._segment = following
        return True

    def _find_proof(self, lsn: int) -> str | None:
        """Find what says that record `lsn` was acknowledged, or None."""
        if lsn <= self._durable_lsn:
            return f"record {lsn}, which `durable` covers"
        last = find_segments(self._file_system, self._directory)[-1:]
        if last and last[0] > self._segment.header.first_lsn:
            return f"record {lsn}, before the segment that starts with {last[0]}"
        return None

    def _refuse(self, proof: str) -> NoReturn:
        segment = self._segment
        if segment.ended:
            firsts = find_segments(self._file_system, self._directory)
            later = [first for first in firsts if first > segment.lsn]
            if later:
                raise RecordsGone(self._directory, segment.lsn, later[0])
            raise Damaged(segment.path, segment.offset, proof, "no such segment")
        found = segment.defect.found if segment.defect else "nothing"
        raise Damaged(segment.path, segment.offset, proof, found)

    def _read_durable(self) -> None:
        """Learn how far the log is durable. A torn or absent file says nothing; the next look
        will."""
        try:
            if self._durable_fd is None:
                self._durable_fd = self._file_system.open(join(self._directory, DURABLE_NAME))
            data = read_all(self._file_system, self._durable_fd, DURABLE_BYTES, 0)
        except FileNotFoundError:
            return
        durable = decode_durable(data)
        if durable is not None and durable.log_id_start == self.log_id[:8]:
            self._durable_lsn = max(self._durable_lsn, durable.lsn)
