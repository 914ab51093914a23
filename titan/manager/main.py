"""Runs a manager: alone on its files, or as one of several that share a log."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from typing import Any, Final

import wal
from titan import logs
from titan.errors import TitanError
from titan.manager import directory as data_directory
from titan.manager.door import Door, open_door
from titan.manager.history import check_can_sync, missing_modules
from titan.manager.journal import FileJournal
from titan.manager.left_slot import warn_of_left_slot
from titan.manager.options import ManagerOptions
from titan.manager.recovery import recover, take_lock
from titan.manager.secret_files import SECRETS_NAME, SecretFiles
from titan.manager.shell import EXIT_BROKEN
from titan.manager.start import make_keeper, open_history, open_up, stop_on_failure
from titan.manager.term import Course, Ground, Term, end_all
from titan.metrics.calls import Calls
from titan.rpc.channel import raise_descriptors
from titan.rpc.reload import reload_on_hangup

_log = logging.getLogger("titan.manager")

# While the loop computes, the writer thread waits for the interpreter's lock after each
# fdatasync; the default of 5 ms would be most of a submit's time.
SWITCH_INTERVAL_SECONDS: Final = 0.0005
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
# So many it takes until a signal that the loop was told of has been heard.
LOOP_TURNS: Final = 3


def run_manager(options: ManagerOptions) -> int:
    """Runs a manager until SIGTERM or SIGINT and returns the exit code.

    One that shares its log may replace this process by another of the same command.
    """
    logs.set_up(options.log_level, options.log_format)
    raise_descriptors()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        asyncio.run(_run(options))
    except wal.LogFailed as error:
        _log.critical("the log failed: %s", error)
        return EXIT_BROKEN
    except (TitanError, wal.WalError) as error:
        _log.error("the manager does not run: %s", error)
        return 1
    except OSError as error:
        # Not all of them name a file.
        _log.error("the manager does not run: %s: %s", options.data_directory, error)
        return 1
    return 0


async def _run(options: ManagerOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    # They waited, if this process has taken another's place.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    if options.history_sync:
        check_can_sync(options.history_url)
    door = open_door(options)
    reload_on_hangup(loop, door.peers)
    running: list[asyncio.Task[Any]] = []
    begins_anew = False
    try:
        data_directory.prepare(options.data_directory, is_shared=options.journal_url is not None)
        if options.journal_url is None:
            await _run_alone(options, door, running, stop)
        else:
            begins_anew = await _run_shared(options, options.journal_url, door, running, stop)
    finally:
        await end_all(running)
        if door.metrics is not None:
            await asyncio.to_thread(door.metrics.stop)
        await door.server.stop(0)
    # Whoever has stopped it meanwhile meant this process, and not the one in its place.
    if begins_anew and not stop.is_set():
        await _replace_process(stop)
    _log.info("the manager stopped")


async def _run_alone(
    options: ManagerOptions, door: Door, running: list[asyncio.Task[Any]], stop: asyncio.Event
) -> None:
    """Whoever has the lock on the directory leads, and nobody else can."""
    begun_ns = time.monotonic_ns()
    found = recover(options.data_directory, segment_bytes=options.segment_bytes)
    recovery_us = (time.monotonic_ns() - begun_ns) // 1000
    if options.history_url is None or missing_modules(options.history_url):
        warn_of_left_slot(options.data_directory, options.reader_lag_max_bytes)
    try:
        journal = FileJournal(options.data_directory / "wal", found.log)
        ground = Ground(
            state=found.state,
            journal=journal,
            secret_store=SecretFiles(options.data_directory / SECRETS_NAME),
            recovery_us=recovery_us,
            records=found.records,
            snapshot_lsn=found.snapshot_lsn,
        )
        calls = Calls()
        term = Term(options, door, calls, ground)
        keeper = make_keeper(
            options, journal, found, now_us=term.shell.now_us, on_failure=stop_on_failure
        )
        history, writers = open_history(options)
        course = Course(
            open_services=lambda: open_up(options, door, calls, running),
            keeper=keeper,
            beside=[keeper.run(), *writers],
            history=history,
            on_failure=stop_on_failure,
        )
        await term.run(course, stop)
    finally:
        found.log.close()


async def _run_shared(
    options: ManagerOptions,
    url: str,
    door: Door,
    running: list[asyncio.Task[Any]],
    stop: asyncio.Event,
) -> bool:
    """Whether a new process is to take this one's place."""
    from titan.journal.database import Database  # noqa: PLC0415 - loads an extra
    from titan.manager.several.manager import SharedManager  # noqa: PLC0415 - loads an extra

    calls = Calls()
    # Another manager that runs on this directory finds its access token as it was.
    take_lock(options.data_directory).release()
    services = await open_up(options, door, calls, running)
    return await SharedManager(options, door, services, calls, Database(url), stop).run()


async def _replace_process(stop: asyncio.Event) -> None:
    """The same command again, under the same number: whoever watches over it sees no end.

    Returns where it is stopped meanwhile.
    """
    # A signal that comes before the new one listens is kept for it; as the first process of a
    # container it would else be dropped. What comes before that is heard without the loop.
    for number in STOPPING:
        signal.signal(number, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)
    _log.info("the manager begins anew")
    sys.stdout.flush()
    sys.stderr.flush()
    if not stop.is_set():
        # By its path: by a name alone the interpreter would look for itself, and find another.
        os.execv(sys.executable, (sys.executable, *sys.orig_argv[1:]))
