"""The log as its owner sees it: open, replay, append, wait, close.

Opening takes the lock and recovers; from then on what is appended goes to the flusher, whose thread
is the only one that writes. What may be called from where is told there.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from types import TracebackType
from typing import Self
from zlib import crc32

from wal.directory import DURABLE_NAME, LOCK_NAME, StrPath, find_segments, join
from wal.errors import LogFailed, PositionMismatch, RecordsGone
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, sync_name_of
from wal.flusher import Flusher
from wal.layout import Frame, check_body, first_chain, frame_records
from wal.lock import Lock
from wal.record import Flush, PackedFrame, Position, Record
from wal.recovery import Recovery
from wal.segment import Segment
from wal.writer import Writer

SEGMENT_BYTES = 64 << 20
SEGMENT_BYTES_MIN = 256
"""Below this there is no room for a record; tests use sizes near it."""


def begin(
    directory: StrPath,
    position: Position,
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
    segment_bytes: int = SEGMENT_BYTES,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> None:
    """Make an empty log that goes on after a position, durably; `Log.open` takes it up.

    For a copy of a log whose older records are not wanted, or are gone: who opens it needs a
    snapshot at that position, unless its LSN is 0. The caller sees to it that nobody else opens the
    directory meanwhile. Raises FileExistsError (a log is there, or was), ValueError (at LSN 0 the
    chain CRC follows from the log id, and this is another), OSError, LogFailed.
    """
    if position.lsn == 0 and position.chain != first_chain(position.log_id):
        raise ValueError(f"no log begins with the chain CRC {position.chain:08x}")
    path = os.fspath(directory)
    file_system.make_directory(path)
    if find_segments(file_system, path) or DURABLE_NAME in file_system.list_directory(path):
        raise FileExistsError(errno.EEXIST, "there is a log already", path)
    _sync_name(file_system, path)
    writer = Writer(
        file_system,
        path,
        segment_bytes=segment_bytes,
        random_bytes=random_bytes,
        on_warning=_warn,
    )
    try:
        writer.create(position)
    finally:
        writer.close()


def _sync_name(file_system: FileSystem, directory: str) -> None:
    """Whoever made the directory may have been killed before it did."""
    try:
        sync_name_of(file_system, directory)
    except OSError as error:
        raise LogFailed(os.path.dirname(directory), "fsync", str(error)) from error


def _warn(message: str) -> None:
    logging.getLogger("wal").warning("%s", message)


class Log:
    """An open log. Made by `Log.open`; also a context manager that closes it."""

    @classmethod
    def open(
        cls,
        directory: StrPath,
        *,
        file_system: FileSystem = OS_FILE_SYSTEM,
        segment_bytes: int = SEGMENT_BYTES,
        on_warning: Callable[[str], None] = _warn,
        lock_path: StrPath | None = None,
        lock: Lock | None = None,
        after: Position | None = None,
        known: Sequence[Position] = (),
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> Log:
        """Open the log in a directory, or create it; recover what a crash left; take the lock.

        `lock`: one that the caller has taken; it is the log's from this call on, and released even
        if this fails. Without it the lock at `lock_path` is taken. `after`: the owner has
        everything up to there; a replay needs only what follows, and damage in segments before it
        is warned of, not fatal. `known`: other positions in this log that somebody has stored.
        `random_bytes`: where the log id and the salts come from. `segment_bytes` may change from
        run to run.

        Raises Locked, NotALog, NewerVersion, Damaged (also if a position is not in this log),
        LogFailed (a sync failed), OSError. O(bytes needed).
        """
        with ExitStack() as undo:
            if lock is not None:
                undo.callback(lock.release)
            if segment_bytes < SEGMENT_BYTES_MIN:
                raise ValueError(f"a segment of {segment_bytes} bytes is below {SEGMENT_BYTES_MIN}")
            path = os.fspath(directory)
            file_system.make_directory(path)
            if lock is None:
                lock = Lock(lock_path or join(path, LOCK_NAME), file_system=file_system)
                undo.callback(lock.release)
            _sync_name(file_system, path)
            writer = Writer(
                file_system,
                path,
                segment_bytes=segment_bytes,
                random_bytes=random_bytes,
                on_warning=on_warning,
            )
            undo.callback(writer.close)
            recovery = Recovery(
                file_system,
                path,
                segment_bytes=segment_bytes,
                after=after,
                known=known,
                on_warning=on_warning,
            )
            tail = recovery.run()
            if tail is None:
                writer.create()
            else:
                writer.resume(tail)
            log = cls(file_system, path, lock, writer, on_warning)
            undo.pop_all()
            return log

    def __init__(
        self,
        file_system: FileSystem,
        directory: str,
        lock: Lock,
        writer: Writer,
        on_warning: Callable[[str], None],
    ) -> None:
        """Use `Log.open`."""
        self._file_system = file_system
        self._directory = directory
        self._lock_file = lock
        self._writer = writer
        self._flusher = Flusher(directory, writer, on_warning)

    @property
    def last_lsn(self) -> int:
        """The LSN last given out by `append`; 0 in an empty log."""
        return self._flusher.last_lsn

    @property
    def durable_lsn(self) -> int:
        """Everything up to this LSN survives a power loss."""
        return self._flusher.durable_lsn

    @property
    def room(self) -> bool:
        """Whether the disk takes writes and the next segment is in reserve."""
        return self._flusher.room

    @property
    def log_id(self) -> bytes:
        """16 random bytes, the same for the life of the log."""
        return self._flusher.position.log_id

    @property
    def position(self) -> Position:
        """The position of the last durable record."""
        return self._flusher.position

    @property
    def last_segment_bytes(self) -> int:
        """How much of the last segment is in use, in bytes; the file is preallocated beyond."""
        return self._writer.segment_bytes

    def records(self, after_lsn: int = 0) -> Iterator[Record]:
        """Replay, lazily, the records after `after_lsn` that are durable at the time of this call.

        Every byte is checked again on the way. Raises RecordsGone, Damaged.
        """
        end_lsn = self._flusher.durable_lsn
        return chain.from_iterable(self._batches(after_lsn, end_lsn))

    def frames(self, after_lsn: int = 0) -> Iterator[PackedFrame]:
        """The same, a frame at a time as they were flushed, from the one with the record after
        `after_lsn` on. Raises RecordsGone, Damaged.
        """
        end_lsn = self._flusher.durable_lsn
        for _, frame in self._frames(after_lsn, end_lsn):
            body = frame.buffer[frame.body : frame.body + frame.body_bytes]
            yield PackedFrame(frame.first_lsn, frame.record_count, body, frame.chain)

    def _batches(self, after_lsn: int, end_lsn: int) -> Iterator[list[Record]]:
        for path, frame in self._frames(after_lsn, end_lsn):
            skip = max(0, after_lsn + 1 - frame.first_lsn)
            yield from frame_records(frame, path, skip)

    def _frames(self, after_lsn: int, end_lsn: int) -> Iterator[tuple[str, Frame]]:
        """Each with the path of its segment."""
        if after_lsn >= end_lsn:
            return
        firsts = find_segments(self._file_system, self._directory)
        start = sum(first <= after_lsn + 1 for first in firsts) - 1
        if start < 0:
            raise RecordsGone(self._directory, after_lsn + 1, firsts[0] if firsts else 0)
        for first in firsts[start:]:
            try:
                segment = Segment(self._file_system, self._directory, first)
            except FileNotFoundError as error:
                left = find_segments(self._file_system, self._directory)
                raise RecordsGone(self._directory, first, left[0] if left else 0) from error
            try:
                for frame in segment.frames():
                    if segment.lsn > after_lsn + 1:
                        yield segment.path, frame
                    if segment.lsn > end_lsn:
                        return
                if segment.defect:
                    raise segment.damaged(segment.defect)
            finally:
                segment.close()

    def start(
        self,
        on_durable: Callable[[int], object],
        on_failure: Callable[[BaseException], object],
        on_room: Callable[[bool], object],
        on_flush: Callable[[Flush], object] = lambda _: None,
    ) -> None:
        """Start the writer thread.

        All callbacks run in it; on_failure at most once, as the last one. `on_flush` is told of
        each flush after `on_durable`, for whoever counts them.
        """
        self._flusher.start(on_durable, on_failure, on_room, on_flush)

    def append(self, payload: bytes) -> int:
        """Take a record, to be made durable with the next flush, and return its LSN. Never waits
        for the disk.

        Called from one thread. The payload must not change afterwards. Raises RecordTooLarge,
        LogFailed, LogClosed, BacklogFull. O(1).
        """
        return self._flusher.append(payload)

    def wait_durable(self, lsn: int, timeout: float | None = None) -> bool:
        """Block until `lsn` is durable; False after `timeout` seconds, or if the log was closed.

        Raises LogFailed. Without the writer thread it does not wait: nothing would happen
        meanwhile.
        """
        return self._flusher.wait_durable(lsn, timeout)

    def flush(self) -> bool:
        """Make all that was appended durable, in this thread; only before `start`.

        Returns whether it did; False: the disk refuses for now and `room` is False; call again to
        try again. Raises LogFailed, LogClosed.
        """
        return self._flusher.flush()

    def write_frame(self, frame: PackedFrame) -> bool:
        """Make records durable that are packed already, as one frame, in this thread; only before
        `start`, and when nothing else waits to be flushed.

        For a copy of a log that is to have the frames of the original. Returns as `flush` does,
        which tries again what was refused. Raises PositionMismatch (it does not follow what is
        there), RecordTooLarge, ValueError (not a body of so many records, or one larger than a
        frame's), LogFailed, LogClosed. O(bytes).
        """
        self._flusher.check_idle()
        check_body(frame.record_count, frame.body)
        position = self.position
        chain = crc32(frame.body, position.chain)
        if (frame.first_lsn, frame.chain) != (position.lsn + 1, chain):
            expected = f"chain CRC {chain:08x} behind record {position.lsn}"
            found = f"{frame.chain:08x} behind record {frame.first_lsn - 1}"
            raise PositionMismatch(self._directory, expected, found)
        self._writer.stage_body(frame.record_count, frame.body, chain)
        return self._flusher.flush_staged(frame.record_count)

    def close(self) -> None:
        """Stop cleanly: flush everything, write the end frame, let the lock go. Idempotent.

        Raises NotFlushed or LogFailed if the disk did not take it; the log is closed all the same.
        """
        try:
            self._flusher.finish()
        finally:
            self._release()

    def abandon(self) -> None:
        """Let go of the log without flushing or ending it, as a crash would. Idempotent.

        A flush in flight is waited for.
        """
        self._flusher.abandon()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _release(self) -> None:
        self._flusher.close()
        self._lock_file.release()
