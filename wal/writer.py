"""Writing: one frame at a time, made durable, with rotation and retries. No threads.

The state is what is durable (`lsn`, `offset`, `chain`) and at most one staged frame that is on its
way. An attempt to push it may be made again and again; it ends durable, or with LogFailed, and
never twice in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from wal.directory import DURABLE_NAME, join, segment_name
from wal.errors import LogFailed, WriteFailed
from wal.filesystem import FileSystem, write_all
from wal.layout import (
    FRAME_BODY_BYTES_MAX,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    encode_durable,
    encode_end,
    encode_frame,
    first_chain,
    pack_records,
)
from wal.record import Flush, Position
from wal.recovery import Tail
from wal.reserve import Reserve


class _Staged(NamedTuple):
    """The records of the next frame: how many, packed, and the chain CRC after them."""

    record_count: int
    body: bytes
    chain: int


class Writer:
    """The only one who changes segments. Used by one thread at a time.

    Invariants: every byte of the segment before `_offset` is synced; `position` is the last record
    of those; behind `_offset` there is nothing but zeros, the staged frame, or (while `_dirty`) a
    part of it.
    """

    def __init__(
        self,
        file_system: FileSystem,
        directory: str,
        *,
        segment_bytes: int,
        random_bytes: Callable[[int], bytes],
        on_warning: Callable[[str], None],
    ) -> None:
        self._file_system = file_system
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._random_bytes = random_bytes
        self._on_warning = on_warning
        self._reserve = Reserve(file_system, directory, segment_bytes)
        self._warned = False
        self._staged: _Staged | None = None
        self._sync_seconds = 0.0
        self._frame: bytes | None = None
        self._hint_fd: int | None = None
        self._hint_stale = True
        self._fd = -1
        frame_room = segment_bytes - SEGMENT_HEADER_BYTES - 2 * FRAME_HEADER_BYTES
        self.body_bytes_max = min(FRAME_BODY_BYTES_MAX, frame_room)
        """How large a frame body may be, lengths and payloads; only a single record may be
        larger."""

    def create(self, position: Position | None = None) -> None:
        """Begin a new log, or one that goes on after a position. Raises OSError, LogFailed."""
        if position is None:
            log_id = self._random_bytes(16)
            position = Position(log_id, 0, first_chain(log_id))
        self.position = position
        self._ended = True
        self._start_segment()

    def resume(self, tail: Tail) -> None:
        """Go on where a recovered log ends."""
        segment = tail.segment
        self._path = segment.path
        self._fd = segment.fd
        self._salt = segment.header.salt
        self._first_lsn = segment.header.first_lsn
        self._offset = segment.offset
        self._ended = segment.ended
        self._preallocated = tail.preallocated
        self.position = Position(segment.header.log_id, segment.lsn - 1, segment.chain)

    @property
    def busy(self) -> bool:
        """Whether a staged frame waits to be pushed."""
        return self._staged is not None

    @property
    def segment_bytes(self) -> int:
        """Where the next frame goes. May be read in any thread."""
        return self._offset

    def stage(self, payloads: Sequence[bytes]) -> None:
        """Take the records of the next frame, to keep until they are durable; only when not
        busy."""
        assert payloads
        self.stage_body(len(payloads), *pack_records(payloads, self.position.chain))

    def stage_body(self, record_count: int, body: bytes, chain: int) -> None:
        """The same, where the records are packed already; `chain` is the one after them."""
        assert self._staged is None
        self._staged = _Staged(record_count, body, chain)

    def push(self) -> Flush:
        """Make the staged frame durable; returns what that was.

        Raises WriteFailed if it may be tried again, LogFailed if nothing may be tried any more.
        """
        staged = self._staged
        assert staged is not None
        if self._frame is None:
            if self._ended or self._overflows(FRAME_HEADER_BYTES + len(staged.body)):
                self._rotate()
            # Encoded once: a retry writes the same bytes to the same place.
            self._frame = encode_frame(self.position.lsn + 1, *staged, self._salt)
        self._put(self._frame)
        flush = Flush(staged.record_count, len(self._frame), self._sync_seconds)
        lsn = self.position.lsn + flush.records
        self.position = Position(self.position.log_id, lsn, staged.chain)
        self._staged = self._frame = None
        self._hint_stale = True
        self._write_hint()
        return flush

    def maintain(self) -> bool:
        """Bring back what the log wants to have in hand: blocks for this segment and the next one.

        Returns whether it has both, which is what `room` means.
        """
        self._write_hint()
        try:
            if not self._ended and not self._preallocated:
                self._file_system.fallocate(self._fd, self._segment_bytes)
                self._preallocated = True
            self._reserve.ensure()
        except OSError as error:
            if not self._warned:
                self._on_warning(f"{self._directory}: no room for the next segment: {error}")
            self._warned = True
            return False
        self._warned = False
        return True

    def end(self) -> None:
        """Write the end frame of a clean stop.

        A segment without records is left as it is, to be gone on with: the next one would have its
        name.

        Raises WriteFailed, LogFailed.
        """
        assert self._staged is None
        if not self._ended and self.position.lsn >= self._first_lsn:
            # Without a reserve the next start would find no room for its first frame, if others
            # take what is given back: it cuts the segment itself and has the blocks then.
            self._end_segment(keep_blocks=not self._reserve.preallocated)

    def close(self) -> None:
        """Close all files, whatever state they are in. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._file_system.close(fd)
        hint_fd, self._hint_fd = self._hint_fd, None
        if hint_fd is not None:
            self._file_system.close(hint_fd)
        self._reserve.close()

    def _overflows(self, size: int) -> bool:
        """Whether a frame and an end frame do not fit.

        A segment's first frame always does: the file grows.
        """
        is_empty = self.position.lsn < self._first_lsn
        return not is_empty and self._offset + size + FRAME_HEADER_BYTES > self._segment_bytes

    def _put(self, frame: bytes) -> None:
        """Write a frame at the end and sync it. After a write error the end is where it was."""
        try:
            write_all(self._file_system, self._fd, frame, self._offset)
        except OSError as error:
            # If the cut fails too: the next attempt writes the same bytes to the same place.
            with suppress(OSError):
                self._file_system.ftruncate(self._fd, self._offset)
                self._preallocated = False
            raise WriteFailed(self._path, "write", str(error)) from error
        begun = time.monotonic()
        try:
            self._file_system.fdatasync(self._fd)
        except OSError as error:
            raise LogFailed(self._path, "fdatasync", str(error)) from error
        self._sync_seconds = time.monotonic() - begun
        self._offset += len(frame)

    def _rotate(self) -> None:
        """Leave the full segment behind.

        Each step may fail and the whole be called again; what is done stays done.
        """
        if not self._ended:
            self._end_segment()
        try:
            self._start_segment()
        except OSError as error:
            raise WriteFailed(self._directory, "making a segment", str(error)) from error

    def _end_segment(self, *, keep_blocks: bool = False) -> None:
        self._put(encode_end(self.position.lsn + 1, self.position.chain, self._salt))
        self._ended = True
        if keep_blocks:
            return
        try:
            self._file_system.ftruncate(self._fd, self._offset)
        except OSError as error:
            # Only blocks are wasted: zeros behind an end frame mean nothing.
            self._on_warning(f"{self._path}: could not cut off the unused rest: {error}")

    def _start_segment(self) -> None:
        position = self.position
        salt = int.from_bytes(self._random_bytes(4), "little")
        header = SegmentHeader(position.log_id, position.lsn + 1, position.chain, salt)
        fd, self._preallocated = self._reserve.become_segment(header)
        if self._fd >= 0:
            with suppress(OSError):  # All of it is synced.
                self._file_system.close(self._fd)
        self._fd = fd
        self._path = join(self._directory, segment_name(header.first_lsn))
        self._salt = salt
        self._first_lsn = header.first_lsn
        self._offset = SEGMENT_HEADER_BYTES
        self._ended = False

    def _write_hint(self) -> None:
        """Tell readers what is durable. Never synced: after a crash the frames speak for
        themselves.

        A failure holds nobody up: what is durable is durable. It is tried again with the next
        flush.
        """
        if not self._hint_stale:
            return
        data = encode_durable(self.position.lsn, self.position.log_id, self.position.chain)
        try:
            if self._hint_fd is None:
                path = join(self._directory, DURABLE_NAME)
                self._hint_fd = self._file_system.open(path, write=True, create=True)
            write_all(self._file_system, self._hint_fd, data, 0)
        except OSError:
            return
        self._hint_stale = False
