"""This manager's own copy of the log that it shares: the files that all on its machine read.

A standby brings rows into it before it applies them; the one that leads writes them to the database
and has them copied behind that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import wal
    from titan.journal.mirror import Mirror
    from titan.journal.rows import Row

# So much may be behind in the copy before nothing more is taken: what reads it is to keep up.
BEHIND_BYTES_MAX: Final = 64 << 20
# While rows keep coming they are copied in heaps, the next one so long after the last one began:
# each time that this thread wakes up it takes the interpreter's lock from a loop that is busy.
GATHER_SECONDS: Final = 0.02
RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0


class OwnCopy:
    """The files of the log, as whoever looks after them knows them (`keeper.KeptLog`)."""

    def __init__(self, mirror: Mirror) -> None:
        """Takes over a mirror that is used by one thread at a time."""
        self._mirror = mirror
        self.appended_bytes = 0

    @property
    def position(self) -> wal.Position:
        """The last record in it."""
        return self._mirror.position

    @property
    def durable_lsn(self) -> int:
        """The number of that record."""
        return self._mirror.position.lsn

    @property
    def last_segment_bytes(self) -> int:
        """How much of its newest segment is in use."""
        return self._mirror.last_segment_bytes

    @property
    def has_room(self) -> bool:
        """Whether its disk takes more."""
        return self._mirror.room

    def add(self, row: Row) -> bool:
        """Returns when the row is in it; False: there is no room for it now.

        Raises wal.LogFailed.
        """
        if not self._mirror.add(row):
            return False
        self.appended_bytes += len(row.body)
        return True

    def look_for_room(self) -> None:
        """Finds out whether there is room again. Raises wal.LogFailed."""
        self._mirror.look_for_room()

    def abandon(self) -> None:
        """Lets the files go as they are, and the lock of the directory."""
        self._mirror.abandon()


class Copying:
    """Brings rows into this manager's own copy, in a thread of its own."""

    def __init__(self, own_copy: OwnCopy, on_failure: Callable[[BaseException], None]) -> None:
        """`on_failure` is called in that thread, at most once: nothing is copied any more."""
        self._own_copy = own_copy
        self._on_failure = on_failure
        self._rows: deque[Row] = deque()
        self._behind_bytes = 0
        self._changed = Condition()
        self._stop = Event()
        self._begun = -GATHER_SECONDS
        self._thread = Thread(target=self._run, name="journal-copy", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether it keeps up, and its disk takes more."""
        return self._behind_bytes < BEHIND_BYTES_MAX and self._own_copy.has_room

    def add(self, row: Row) -> None:
        """Takes the next row, which is durable; returns at once."""
        with self._changed:
            self._rows.append(row)
            self._behind_bytes += len(row.body)
            self._changed.notify()

    def stop(self, within_seconds: float) -> None:
        """Copies what it has, as far as there is time, and ends. The copy may end anywhere."""
        with self._changed:
            self._stop.set()
            self._changed.notify()
        self._thread.join(within_seconds)

    def _run(self) -> None:
        try:
            while (row := self._wait_for_row()) is not None and self._copy(row):
                with self._changed:
                    self._rows.popleft()
                    self._behind_bytes -= len(row.body)
        except BaseException as error:  # noqa: BLE001  (nothing may leave this thread unnoticed)
            self._on_failure(error)

    def _wait_for_row(self) -> Row | None:
        if self._rows:
            return self._rows[0]
        # Not by the condition, which each row would wake.
        self._stop.wait(max(0.0, self._begun + GATHER_SECONDS - time.monotonic()))
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._rows or self._stop.is_set(),
                    None if self._own_copy.has_room else RETRY_SECONDS_MAX,
                )
                if self._rows or self._stop.is_set():
                    self._begun = time.monotonic()
                    return self._rows[0] if self._rows else None
            # Nobody may append for that: whoever has submits is refused meanwhile.
            self._own_copy.look_for_room()

    def _copy(self, row: Row) -> bool:
        pause = RETRY_SECONDS_MIN
        while not self._own_copy.add(row):
            with self._changed:
                if self._changed.wait_for(self._stop.is_set, pause):
                    # The database has it, and the next start fetches it.
                    return False
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        return True
