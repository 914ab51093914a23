"""Keeps the log small and its start short: has snapshots taken, and tidies up behind them.

A snapshot is taken by a process of its own, which is watched and never waited for. What is
not needed any more is removed between two of them, by this one alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import wal
from titan.logs import LogLine
from titan.manager.reader_process import start_process
from titan.manager.recovery import Recovered
from titan.manager.retention import Limits, Retention
from titan.snapshots import LEFT_FREE_BYTES

_log = logging.getLogger("titan.keeper")

LOOK_SECONDS: Final = 0.2
TIDY_SECONDS: Final = 60.0
# A snapshot that takes longer hangs: a state of many GB is written in less.
SNAPSHOT_SECONDS_MAX: Final = 1800.0
# It rests so many times as long as it worked: under a flood, too, a core is mostly left alone.
REST: Final = 9
# Soon at first, so that freed room or a killed snapshotter is made up for before much is logged.
RETRY_SECONDS_MIN: Final = 2.0
RETRY_SECONDS_MAX: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPolicy:
    """When a snapshot is due: so much was logged since the last one.

    8 MiB hold up to 300,000 events, which a start or a look back replays within a second.
    """

    bytes_since: int = 8 << 20
    records_since: int = 250_000

    def is_due(self, *, bytes_since: int, records_since: int, last_bytes: int) -> bool:
        """`last_bytes` is the size of the last one: of a large state it takes more log to make
        another worth its writing, at least a quarter of its size."""
        if not records_since:
            return False
        by_bytes = bytes_since >= max(self.bytes_since, last_bytes // 4)
        return by_bytes or records_since >= max(self.records_since, last_bytes // 400)


class KeptLog(Protocol):
    """The files of a log, as far as their keeper needs to know them."""

    @property
    def appended_bytes(self) -> int:
        """How much was appended in this run."""

    @property
    def durable_lsn(self) -> int:
        """The last record that is durable in them."""

    @property
    def last_segment_bytes(self) -> int:
        """How much of the segment that is written to is in use."""


class Keeper:
    """Looks after one data directory while its manager runs."""

    def __init__(
        self,
        data_directory: Path,
        log: KeptLog,
        *,
        policy: SnapshotPolicy,
        limits: Limits,
        now_us: Callable[[], int],
        on_failure: Callable[[BaseException], None],
        left_free_bytes: int = LEFT_FREE_BYTES,
        log_level: str = "info",
        log_format: str = "text",
    ) -> None:
        """`on_failure` ends the process: a sync has failed. `left_free_bytes`: see `snapshots`."""
        self.retention = Retention(data_directory, limits)
        self._data_directory = data_directory
        self._kept = log
        self._policy = policy
        # The manager's time: a wall clock set forward must not make the log old.
        self._now_us = now_us
        self._on_failure = on_failure
        self._left_free_bytes = left_free_bytes
        self._log_level = log_level
        self._log_format = log_format
        # The last snapshot: its LSN, its size, and how much had been appended when it was begun.
        self._last_lsn = 0
        self._last_bytes = 0
        self._bytes_then = 0
        self._retry_seconds = 0.0
        self._not_before = 0.0
        self._tidied = float("-inf")
        # Of this run, for metrics.
        self.snapshots_taken = 0
        self.snapshots_failed = 0
        self.last_snapshot_seconds = 0.0

    def note_start(self, found: Recovered) -> None:
        """What the start was made from counts as logged since."""
        self._last_lsn, self._last_bytes = found.snapshot_lsn, found.snapshot_bytes
        self._bytes_then = -found.tail_bytes
        for lsn in found.unusable:
            self.retention.note_unusable(lsn)

    async def run(self) -> None:
        """Looks again and again until it is cancelled; whatever is under way has ended then."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except wal.LogFailed as error:
                self._on_failure(error)
            # Too much is kept meanwhile, which is no reason to stop, nor to give up for ever.
            except Exception as error:  # noqa: BLE001
                is_known = isinstance(error, wal.WalError | OSError)
                _log.warning("could not tidy up: %s", error, exc_info=not is_known)

    async def _look(self) -> None:
        now = time.monotonic()
        if now >= self._not_before and self._policy.is_due(
            bytes_since=self._kept.appended_bytes - self._bytes_then,
            records_since=self._kept.durable_lsn - self._last_lsn,
            last_bytes=self._last_bytes,
        ):
            await self._take_snapshot()
            self._tidied = float("-inf")
        if now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            await self._tidy()

    async def _tidy(self) -> None:
        tidying = asyncio.create_task(
            asyncio.to_thread(
                self.retention.tidy,
                now_us=self._now_us(),
                end_lsn=self._kept.durable_lsn,
                last_segment_bytes=self._kept.last_segment_bytes,
            )
        )
        try:
            await asyncio.shield(tidying)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and must not go on when the lock is another's.
            self.retention.stop()
            await asyncio.wait([tidying])
            raise

    async def _take_snapshot(self) -> None:
        appended = self._kept.appended_bytes
        begun = time.monotonic()
        try:
            code = await self._run_snapshotter()
        except OSError as error:
            _log.warning("no snapshotter could be started: %s", error)
            code = None
        if code == 0:
            lsn, size_bytes = await asyncio.to_thread(self.retention.newest)
            if lsn > self._last_lsn:
                self._last_lsn, self._last_bytes, self._bytes_then = lsn, size_bytes, appended
                self._retry_seconds = 0.0
                now = time.monotonic()
                self._not_before = now + REST * (now - begun)
                self.snapshots_taken += 1
                self.last_snapshot_seconds = now - begun
                return
        self.snapshots_failed += 1
        self._retry_seconds = min(
            max(2 * self._retry_seconds, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX
        )
        self._not_before = time.monotonic() + self._retry_seconds
        _log.warning(
            LogLine(
                f"no snapshot came of it; the next try is in {self._retry_seconds:.0f} s",
                exit_code=code,
            )
        )

    async def _run_snapshotter(self) -> int | None:
        """The exit code, None when it had to be killed."""
        process = await start_process(
            "titan.lookback.snapshotter",
            *(self._data_directory, self._log_level, self._log_format),
            *(self._left_free_bytes, os.getpid()),
        )
        try:
            return await asyncio.wait_for(process.wait(), SNAPSHOT_SECONDS_MAX)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
