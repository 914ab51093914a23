"""What is made alike at each start of a manager, whoever else shares its log."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from titan.manager.door import Door, let_in
from titan.manager.history import NICENESS, HistoryWriter
from titan.manager.history_desk import NONE_WRITTEN, HistoryDesk
from titan.manager.keeper import Keeper, KeptLog, SnapshotPolicy
from titan.manager.options import ManagerOptions
from titan.manager.recovery import Recovered
from titan.manager.retention import Limits
from titan.manager.server import Services, open_services
from titan.manager.shell import EXIT_BROKEN
from titan.metrics.calls import Calls
from titan.snapshots import LEFT_FREE_SEGMENTS

Helpers = list[Coroutine[Any, Any, None]]

_log = logging.getLogger("titan.manager")


async def open_up(
    options: ManagerOptions, door: Door, calls: Calls, running: list[asyncio.Task[Any]]
) -> Services:
    """Lets in who may call; nobody is answered yet. What is to be done beside runs from now on.

    `calls` counts the calls, if the door has metrics. To be called by who has, or had, the lock on
    the data directory: the access token there is its own.
    """
    helpers: list[Coroutine[Any, Any, None]] = []
    callers = let_in(options.data_directory, door.address, door.peers, helpers)
    running += map(asyncio.create_task, helpers)
    return await open_services(
        door.server, callers, calls=calls if door.metrics is not None else None
    )


def make_keeper(
    options: ManagerOptions,
    log: KeptLog,
    found: Recovered,
    *,
    now_us: Callable[[], int],
    on_failure: Callable[[BaseException], None],
) -> Keeper:
    """The keeper of the files of a manager with these options, that was started from `found`."""
    keeper = Keeper(
        options.data_directory,
        log,
        now_us=now_us,
        policy=SnapshotPolicy(bytes_since=options.snapshot_bytes),
        limits=Limits(
            retain_us=int(options.retain_seconds * 1e6),
            reader_lag_max_bytes=options.reader_lag_max_bytes,
        ),
        on_failure=on_failure,
        left_free_bytes=LEFT_FREE_SEGMENTS * options.segment_bytes,
        log_level=options.log_level,
        log_format=options.log_format,
    )
    keeper.note_start(found)
    return keeper


def open_history(options: ManagerOptions) -> tuple[HistoryDesk, Helpers]:
    """What asks the history, and what has it written, if it is to be."""
    if options.history_url is None:
        return HistoryDesk(NONE_WRITTEN), []
    desk = HistoryDesk()
    writer = HistoryWriter(
        options.data_directory,
        options.history_url,
        desk,
        niceness=0 if options.history_sync else NICENESS,
        log_level=options.log_level,
        log_format=options.log_format,
    )
    return desk, [writer.run()]


def stop_on_failure(error: BaseException) -> None:
    """What the disk did not confirm must never be acknowledged: the process ends here."""
    _log.critical("the log failed, stopping at once: %s", error)
    os._exit(EXIT_BROKEN)
