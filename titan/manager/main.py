"""Starts and stops a manager. The order of both is here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import wal
from titan import __version__, logs
from titan.errors import Refused, TitanError
from titan.logs import LogLine
from titan.manager import directory as data_directory
from titan.manager.dispatch import Dispatcher
from titan.manager.door import Door, let_in, open_door
from titan.manager.event_log import EventLog
from titan.manager.garbage import Collector
from titan.manager.history import NICENESS, HistoryWriter, check_can_sync, missing_modules
from titan.manager.history_desk import NONE_WRITTEN, HistoryDesk
from titan.manager.history_sync import HistorySync
from titan.manager.journal import FileJournal
from titan.manager.keeper import Keeper, SnapshotPolicy
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.submit import check_lease
from titan.manager.left_slot import warn_of_left_slot
from titan.manager.metrics import ManagerMetrics
from titan.manager.options import ManagerOptions
from titan.manager.past import PastDesk
from titan.manager.recovery import Recovered, recover
from titan.manager.retention import Limits
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_files import SECRETS_NAME
from titan.manager.server import leader_handlers, open_services
from titan.manager.shell import EXIT_BROKEN, Shell
from titan.manager.traces import TraceExporter, find_sampler
from titan.rpc.channel import (
    raise_descriptors,
)
from titan.snapshots import LEFT_FREE_SEGMENTS
from titan.state import ClusterState

if TYPE_CHECKING:
    pass

_log = logging.getLogger("titan.manager")

# While the loop computes, the writer thread waits for the interpreter's lock after each
# fdatasync; the default of 5 ms would be most of a submit's time.
SWITCH_INTERVAL_SECONDS: Final = 0.0005
STOP_GRACE_SECONDS: Final = 1.0
# A disk that only is slow is not full.
ROOM_SECONDS: Final = 2.0


def run_manager(options: ManagerOptions) -> int:
    """Runs a manager until SIGTERM or SIGINT and returns the exit code."""
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
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.history_sync:
        check_can_sync(options.history_url)
    door = open_door(options)
    try:
        data_directory.prepare(options.data_directory)
        start_ns = time.monotonic_ns()
        found = recover(options.data_directory, segment_bytes=options.segment_bytes)
        recovery_us = (time.monotonic_ns() - start_ns) // 1000
        if options.history_url is None or missing_modules(options.history_url):
            warn_of_left_slot(options.data_directory, options.reader_lag_max_bytes)
        try:
            await _serve(options, door, found, recovery_us, stop)
        finally:
            found.log.close()
    finally:
        if door.metrics is not None:
            await asyncio.to_thread(door.metrics.stop)
        await door.server.stop(0)
    _log.info("the manager stopped")


async def _serve(
    options: ManagerOptions,
    door: Door,
    found: Recovered,
    recovery_us: int,
    stop: asyncio.Event,
) -> None:
    server, address, peers, metrics_server = door
    # What it refuses is refused before a record tells of a start.
    sampler = find_sampler(options.data_directory, os.environ)
    # Modules and what was recovered: no search for cycles needs to go through them again.
    collector = Collector()
    state, journal = found.state, FileJournal(options.data_directory / "wal", found.log)
    settings = options.settings()
    dispatcher = Dispatcher(peers.files if peers else None)
    shell = Shell(Kernel(state, settings), journal, dispatcher)
    shell.recovery_us, shell.recovered_records = recovery_us, found.records
    shell.sampler = sampler
    metrics: ManagerMetrics | None = None
    if metrics_server is not None:
        metrics = ManagerMetrics(shell, journal, options.data_directory)
    # Of jobs that ended while nobody looked nothing is left when the first call comes.
    secret_desk = SecretDesk(shell, options.data_directory / SECRETS_NAME)
    dispatcher.bind(shell, secret_desk)
    _warn_of_leases(state, settings)
    journal.start(_stop_on_failure)
    shell.write_start(
        cluster_id=uuid.uuid4().bytes, epoch=secrets.randbits(63), version=__version__
    )
    shell.flush_turn()
    if not await _wait_room_to_start(shell, journal, stop):
        return
    data_directory.write_description(options.data_directory, state.cluster_id)
    past = PastDesk(options.data_directory, log_format=options.log_format)
    helpers: list[Coroutine[Any, Any, None]] = [
        EventLog(shell).run(),
        *_export_traces(options, shell),
    ]
    callers = let_in(options.data_directory, address, peers, helpers)
    history = HistoryDesk(NONE_WRITTEN if options.history_url is None else "")
    services = await open_services(server, callers, calls=metrics.calls if metrics else None)
    handlers = leader_handlers(
        services.entry, shell, dispatcher, past, secret_desk, history=history,
        history_sync=HistorySync(history) if options.history_sync else None,
    )  # fmt: skip
    await services.lead(handlers)
    await server.start()
    _tell_ready(options, address, state, found, recovery_us)
    keeper = _make_keeper(options, found, journal, shell.now_us)
    helpers += _history_helpers(options, history)
    if metrics is not None and metrics_server is not None:
        metrics.keeper = keeper
        metrics_server.start(metrics.read, metrics.look, shell.leadership.leads)
        helpers.append(metrics.run_probe())
    running = [
        asyncio.create_task(each)
        for each in (shell.run_ticks(), keeper.run(), collector.run(), *helpers)
    ]
    try:
        await stop.wait()
    finally:
        # Calls under way get their answers, which need the log; then nothing is decided any more.
        await services.health.enter_graceful_shutdown()
        dispatcher.release_polls()
        await server.stop(STOP_GRACE_SECONDS)
        for helper in running:
            helper.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await dispatcher.close()
        await past.close()
        shell.flush_turn()
        await secret_desk.close()


def _history_helpers(options: ManagerOptions, desk: HistoryDesk) -> list[Coroutine[Any, Any, None]]:
    if options.history_url is None:
        return []
    writer = HistoryWriter(
        options.data_directory,
        options.history_url,
        desk,
        niceness=0 if options.history_sync else NICENESS,
        log_level=options.log_level,
        log_format=options.log_format,
    )
    return [writer.run()]


def _tell_ready(
    options: ManagerOptions, address: str, state: ClusterState, found: Recovered, recovery_us: int
) -> None:
    _log.info(
        LogLine(
            "the manager is ready",
            address=address,
            directory=options.data_directory,
            cluster=state.cluster_id.hex(),
            snapshot_lsn=found.snapshot_lsn,
            records=found.records,
            jobs=len(state.jobs),
            recovery_ms=round(recovery_us / 1000, 1),
        )
    )


def _warn_of_leases(state: ClusterState, settings: Settings) -> None:
    """Jobs may have been accepted under a longer timeout than there is now."""
    if not any(each.at_most_once for each in state.classes.values()):
        return
    try:
        check_lease(settings)
    except Refused as error:
        _log.warning("there are such jobs from before: %s", error)


async def _wait_room_to_start(shell: Shell, journal: FileJournal, stop: asyncio.Event) -> bool:
    """Until the first record of this run is durable; False: it is to stop before there is room."""
    durable = asyncio.create_task(shell.wait_durable(shell.lsn))
    waits = {durable, asyncio.create_task(stop.wait())}
    try:
        done, _ = await asyncio.wait(
            waits, timeout=ROOM_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            _log.error(LogLine("no room to start: waiting for it", **journal.room_fields()))
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return durable in done
    finally:
        for each in waits:
            each.cancel()


def _export_traces(options: ManagerOptions, shell: Shell) -> list[Coroutine[Any, Any, None]]:
    """What has traces exported, if that is wished for."""
    if shell.sampler is None:
        return []
    exporter = TraceExporter(
        options.data_directory,
        shell.started_us,
        log_level=options.log_level,
        log_format=options.log_format,
    )
    return [exporter.run()]


def _make_keeper(
    options: ManagerOptions, found: Recovered, journal: FileJournal, now_us: Callable[[], int]
) -> Keeper:
    keeper = Keeper(
        options.data_directory,
        journal,
        now_us=now_us,
        policy=SnapshotPolicy(bytes_since=options.snapshot_bytes),
        limits=Limits(
            retain_us=int(options.retain_seconds * 1e6),
            reader_lag_max_bytes=options.reader_lag_max_bytes,
        ),
        on_failure=_stop_on_failure,
        left_free_bytes=LEFT_FREE_SEGMENTS * options.segment_bytes,
        log_level=options.log_level,
        log_format=options.log_format,
    )
    keeper.note_start(found)
    return keeper


def _stop_on_failure(error: BaseException) -> None:
    """What the disk did not confirm must never be acknowledged: the process ends here."""
    _log.critical("the log failed, stopping at once: %s", error)
    os._exit(EXIT_BROKEN)
