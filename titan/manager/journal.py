"""The log as the manager knows it: a protocol, and the log of files behind it.

Nothing else of the manager may assume that the log is a file.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import wal
from titan.logs import LogLine

_log = logging.getLogger("titan.journal")


class Journal(Protocol):
    """A log of records that one manager appends to.

    All of it is called in the loop, which alone moves `durable_lsn` and lets go those that wait.
    """

    @property
    def room(self) -> bool:
        """Whether there is room for more than ends. Without it records are taken all the same."""

    @property
    def durable_lsn(self) -> int:
        """Everything up to it survives any crash. At first the last record that was recovered."""

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """What was appended becomes durable from now on; called once.

        `on_failure` is called once at most, in any thread: nothing becomes durable any more, of
        what was appended before, nobody knows whether it did, and whoever waits goes on waiting.
        """

    def append(self, payload: bytes) -> int:
        """Adds a record without waiting and returns its LSN, the next one.

        Raises wal.RecordTooLarge, wal.LogFailed, wal.LogClosed, wal.BacklogFull.
        """

    async def wait_durable(self, lsn: int) -> None:
        """Returns when that record is durable; it may not have been appended yet.

        Those that wait are let go in the order of their records.
        """

    def room_fields(self) -> dict[str, object]:
        """Where it is and how much is free there, by name."""


class Appending(Protocol):
    """What a journal is built on: gathers records and makes them durable in a thread of its own."""

    @property
    def durable_lsn(self) -> int:
        """Everything up to it survives any crash."""

    @property
    def room(self) -> bool:
        """Whether there is room for more than ends."""

    def start(
        self,
        on_durable: Callable[[int], object],
        on_failure: Callable[[BaseException], object],
        on_room: Callable[[bool], object],
        on_flush: Callable[[wal.Flush], object],
    ) -> None:
        """Starts the thread, in which all of these are called."""

    def append(self, payload: bytes) -> int:
        """Takes a record and returns its LSN."""


class FlushedJournal(ABC):
    """A journal whose records become durable in a thread: the part of it in the loop."""

    def __init__(self, log: Appending) -> None:
        """Takes over what is appended to, which was not started."""
        self._log = log
        self.appended_bytes = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._durable_lsn = log.durable_lsn
        self._on_flush: Callable[[wal.Flush], object] = lambda _: None

    @property
    def room(self) -> bool:
        """Whether there is room for more than ends."""
        return self._log.room

    @property
    def durable_lsn(self) -> int:
        """Everything up to it survives any crash."""
        return self._durable_lsn

    def observe_flushes(self, on_flush: Callable[[wal.Flush], object]) -> None:
        """Has each flush told, in the writer thread; to be called before `start`."""
        self._on_flush = on_flush

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the writer thread; called once, in the loop."""
        loop = asyncio.get_running_loop()

        def on_durable(lsn: int) -> None:
            try:
                loop.call_soon_threadsafe(self._advance, lsn)
            except RuntimeError:
                # The loop is closed: at the clean stop nobody waits any more.
                return

        def on_room(has_room: bool) -> None:
            if has_room:
                _log.info(LogLine("there is room again", **self.room_fields()))
            else:
                _log.error(LogLine("no room left: submits are refused", **self.room_fields()))

        self._log.start(
            on_durable=on_durable,
            on_failure=on_failure,
            on_room=on_room,
            on_flush=self._on_flush,
        )

    def append(self, payload: bytes) -> int:
        """Adds a record without waiting and returns its LSN."""
        self.appended_bytes += len(payload)
        return self._log.append(payload)

    async def wait_durable(self, lsn: int) -> None:
        """Returns when that record is durable; it may not have been appended yet."""
        if lsn <= self._durable_lsn:
            return
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters
        # In the order of their records, see `_advance`. Nearly all come in it: the state's LSN
        # never falls, and few wait for what was decided a while ago.
        place = len(waiters)
        while place and waiters[place - 1][0] > lsn:
            place -= 1
        waiters.insert(place, (lsn, waiter))
        await waiter

    @abstractmethod
    def room_fields(self) -> dict[str, object]:
        """Where it is and how much is free there, by name."""

    def _advance(self, lsn: int) -> None:
        self._durable_lsn = max(self._durable_lsn, lsn)
        waiters = self._waiters
        while waiters and waiters[0][0] <= lsn:
            _, waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


class FileJournal(FlushedJournal):
    """The log in a directory of this machine."""

    def __init__(self, directory: Path, log: wal.Log) -> None:
        """Takes over a log that was opened in that directory."""
        super().__init__(log)
        self._directory = directory
        self._files = log

    @property
    def last_segment_bytes(self) -> int:
        """How much of the segment that is written to is in use."""
        return self._files.last_segment_bytes

    def room_fields(self) -> dict[str, object]:
        """Where it is and how much is free there, by name."""
        free_bytes = shutil.disk_usage(self._directory).free
        return {"directory": self._directory, "free_bytes": free_bytes}
