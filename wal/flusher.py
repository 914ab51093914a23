"""The flushing of a log: records gather in memory, and are made durable a frame at a time.

Who may touch what: the owner's thread appends; the writer thread (or, before `start`, the owner
inside `flush`) is the only one who uses the Writer. They share the pending records, under one lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition, Thread
from threading import Lock as Mutex
from typing import Protocol

from wal.errors import (
    BacklogFull,
    LogClosed,
    LogFailed,
    NotFlushed,
    RecordTooLarge,
    WalError,
    WriteFailed,
)
from wal.layout import RECORD_BYTES_MAX
from wal.record import Flush, Position

BACKLOG_BYTES_MAX = 256 << 20
"""Records that wait for a disk which takes none are held in memory. An owner that heeds `room`
never comes near."""

RETRY_SECONDS_MIN = 0.01
RETRY_SECONDS_MAX = 1.0
"""A full disk is looked at again after 10 ms, then ever more rarely, at least once a second: freed
room is noticed at once by human measure, and a second's worth of attempts costs nothing."""


def _ignore(_: object) -> None:
    """The callback of a log that was not started."""


class FrameWriter(Protocol):
    """What makes a frame at a time durable: `Writer` in files, others elsewhere. Used by one thread
    at a time."""

    position: Position
    """The last record that is durable."""
    body_bytes_max: int
    """How large a frame's body may be; only a single record may be larger."""

    @property
    def busy(self) -> bool:
        """Whether a staged frame waits to be pushed."""

    def stage(self, payloads: Sequence[bytes]) -> None:
        """Take the records of the next frame, to keep until they are durable; only when not
        busy."""

    def push(self) -> Flush:
        """Make the staged frame durable; return what that was.

        Raises WriteFailed if it may be tried again. After anything else nothing may be tried any
        more.
        """

    def maintain(self) -> bool:
        """Look after the place that is written to; return whether it has room."""

    def end(self) -> None:
        """Mark a clean stop. Raises WriteFailed, LogFailed."""

    def close(self) -> None:
        """Let go of everything, whatever its state. Idempotent."""


class Flusher:
    """What the owner of a log has appended, on its way to where it is durable."""

    def __init__(
        self, directory: str, writer: FrameWriter, on_warning: Callable[[str], None]
    ) -> None:
        """Take over a writer that stands at the end of its log; `directory` names it in errors."""
        self._directory = directory
        self._writer = writer
        self._on_warning = on_warning
        self._room = writer.maintain()
        self._last_lsn = self._durable_lsn = writer.position.lsn
        self._position = writer.position
        self._mutex = Mutex()
        self._wake = Condition(self._mutex)
        self._durable_changed = Condition(self._mutex)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._asleep = False
        self._stopping = False
        self._last_chance_taken = False
        self._abandoned = False
        self._refusal: WalError | None = None
        self._thread: Thread | None = None
        self._on_durable: Callable[[int], object] = _ignore
        self._on_failure: Callable[[BaseException], object] = _ignore
        self._on_room: Callable[[bool], object] = _ignore
        self._on_flush: Callable[[Flush], object] = _ignore

    @property
    def last_lsn(self) -> int:
        """The LSN last given out; 0 in an empty log."""
        return self._last_lsn

    @property
    def durable_lsn(self) -> int:
        """Everything up to this LSN survives a power loss."""
        return self._durable_lsn

    @property
    def position(self) -> Position:
        """The position of the last durable record."""
        return self._position

    @property
    def room(self) -> bool:
        """Whether the disk takes writes and the next segment is in reserve."""
        return self._room

    @property
    def is_stopping(self) -> bool:
        """Whether the writer thread was told to end."""
        return self._stopping

    def start(
        self,
        on_durable: Callable[[int], object],
        on_failure: Callable[[BaseException], object],
        on_room: Callable[[bool], object],
        on_flush: Callable[[Flush], object] = _ignore,
    ) -> None:
        """Start the writer thread.

        All callbacks run in it; on_failure at most once, as the last one.
        """
        self._check_usable()
        if self._thread is not None:
            raise RuntimeError("the log was started before")
        self._on_durable, self._on_failure, self._on_room = on_durable, on_failure, on_room
        self._on_flush = on_flush
        self._thread = Thread(target=self._run, name="wal-writer", daemon=True)
        self._thread.start()

    def append(self, payload: bytes) -> int:
        """Take a record, to be made durable with the next flush, and return its LSN. Never waits
        for the disk.

        Called from one thread. The payload must not change afterwards. Raises RecordTooLarge,
        LogFailed, LogClosed, BacklogFull. O(1).
        """
        size = len(payload)
        if size > RECORD_BYTES_MAX:
            raise RecordTooLarge(size, RECORD_BYTES_MAX)
        with self._mutex:
            if self._refusal is not None:
                raise self._refusal
            if self._pending_bytes > BACKLOG_BYTES_MAX:
                raise BacklogFull(self._pending_bytes, BACKLOG_BYTES_MAX)
            self._pending.append(payload)
            self._pending_bytes += size + 4
            self._last_lsn = lsn = self._last_lsn + 1
            if self._asleep:
                self._asleep = False
                self._wake.notify()
        return lsn

    def wait_durable(self, lsn: int, timeout: float | None = None) -> bool:
        """Block until `lsn` is durable; False after `timeout` seconds, or if the log was closed.

        Raises LogFailed. Without the writer thread it does not wait: nothing would happen
        meanwhile.
        """
        with self._mutex:
            if self._thread is not None:
                self._durable_changed.wait_for(
                    lambda: self._durable_lsn >= lsn or self._refusal is not None, timeout
                )
            if self._durable_lsn < lsn and isinstance(self._refusal, LogFailed):
                raise self._refusal
            return self._durable_lsn >= lsn

    def flush(self) -> bool:
        """Make all that was appended durable, in this thread; only before `start`.

        Returns whether it did; False: the disk refuses for now and `room` is False; call again to
        try again. Raises LogFailed, LogClosed.
        """
        self._check_usable()
        if self._thread is not None:
            raise RuntimeError("the writer thread flushes")
        try:
            while True:
                done = self._flush_once()
                if not done or not self._pending:
                    return done
        except LogFailed as error:
            self._refuse(error)
            raise

    def check_idle(self) -> None:
        """Raise RuntimeError unless the owner may stage a frame in the writer himself: before
        `start`, and when nothing waits to be flushed. Raises LogFailed, LogClosed.
        """
        self._check_usable()
        if self._thread is not None or self._pending or self._writer.busy:
            raise RuntimeError("other records are on their way")

    def flush_staged(self, record_count: int) -> bool:
        """The same as `flush`, of a frame of so many records that the owner has just staged."""
        self._last_lsn += record_count
        return self.flush()

    def finish(self) -> None:
        """Flush everything and write the end frame, unless it is over.

        Raises NotFlushed, LogFailed.
        """
        if self._abandoned or isinstance(self._refusal, LogClosed):
            return
        if self._thread is not None:
            self._stop_thread()
        elif self._refusal is None:
            self.flush()
        if self._refusal is None:
            self._end()

    def abandon(self) -> None:
        """Flush nothing more; a flush in flight is waited for."""
        self._abandoned = True
        if self._thread is not None:
            self._stop_thread()

    def close(self) -> None:
        """Refuse everything from now on and let go of the files, when nothing runs any more."""
        with self._mutex:
            if not isinstance(self._refusal, LogFailed):
                self._refusal = LogClosed(self._directory)
            self._pending.clear()
            self._durable_changed.notify_all()
        self._writer.close()

    def _end(self) -> None:
        """The clean stop of a log that was flushed as far as the disk took it."""
        try:
            if self._writer.busy or self._pending:
                raise NotFlushed(self._directory, self._durable_lsn, self._last_lsn)
            self._writer.end()
        except WriteFailed as error:
            # All records are durable; only the mark of a clean stop is missing.
            self._on_warning(f"the end frame was not written: {error}")
        except LogFailed as error:
            self._refuse(error)
            raise

    def _check_usable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _stop_thread(self) -> None:
        assert self._thread is not None
        with self._mutex:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        """The writer thread: flush, and while a flush runs let the next one gather."""
        retry_seconds = RETRY_SECONDS_MIN
        try:
            while self._wait_for_work(retry_seconds):
                if self._flush_once() and self._room:
                    retry_seconds = RETRY_SECONDS_MIN
                else:
                    retry_seconds = min(2 * retry_seconds, RETRY_SECONDS_MAX)
        # Nothing may leave this thread unnoticed, our own bugs least of all.
        except BaseException as error:  # noqa: BLE001
            self._fail(error)

    def _wait_for_work(self, retry_seconds: float) -> bool:
        """Wait until there is something to do; False: stop. After a refused write wait out the
        back-off first."""
        with self._mutex:
            if self._writer.busy and not self._stopping:
                self._wake.wait(retry_seconds)
            elif not self._pending and not self._stopping:
                self._asleep = True
                # Without room the reserve is looked at again from time to time, though nobody
                # appends.
                self._wake.wait(None if self._room else retry_seconds)
                self._asleep = False
            if self._abandoned:
                return False
            return not self._stopping or self._has_last_chance()

    def _has_last_chance(self) -> bool:
        """While stopping: go on as long as the disk takes what is left; a refused frame is tried
        once more."""
        if self._writer.busy:
            had_it, self._last_chance_taken = self._last_chance_taken, True
            return not had_it
        return bool(self._pending)

    def _flush_once(self) -> bool:
        """Write one frame, if there is something to write. False: the disk refused it and it is
        kept.

        Raises LogFailed.
        """
        writer = self._writer
        if not writer.busy:
            batch = self._take_batch()
            if batch:
                writer.stage(batch)
        if writer.busy:
            try:
                flush = writer.push()
            except WriteFailed as error:
                if self._room:
                    self._on_warning(f"no write is taken, the records are kept: {error}")
                self._set_room(False)
                return False
            self._publish()
            self._on_flush(flush)
        self._set_room(writer.maintain())
        return True

    def _take_batch(self) -> list[bytes]:
        """Take what has gathered, as much as one frame holds."""
        limit = self._writer.body_bytes_max
        with self._mutex:
            batch = self._pending
            if self._pending_bytes <= limit:
                self._pending, self._pending_bytes = [], 0
                return batch
            count, size = 0, 0
            for payload in batch:
                size += len(payload) + 4
                if size > limit and count:
                    size -= len(payload) + 4
                    break
                count += 1
            self._pending = batch[count:]
            self._pending_bytes -= size
            return batch[:count]

    def _publish(self) -> None:
        with self._mutex:
            self._position = self._writer.position
            self._durable_lsn = self._position.lsn
            self._durable_changed.notify_all()
        self._on_durable(self._durable_lsn)

    def _set_room(self, room: bool) -> None:
        if room != self._room:
            self._room = room
            self._on_room(room)

    def _refuse(self, error: WalError) -> None:
        with self._mutex:
            self._refusal = error
            self._durable_changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, LogFailed):
            failure = error
        else:
            failure = LogFailed(self._directory, "the writer thread", repr(error))
            failure.__cause__ = error
        self._refuse(failure)
        self._on_failure(failure)
