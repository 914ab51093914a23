"""What a manager does while it leads, from its first record to its last answer.

A manager on files leads all its life; one that shares its log between two times as a standby.
The order in which things begin and end is here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from titan import __version__
from titan.errors import Refused
from titan.logs import LogLine
from titan.manager import directory as data_directory
from titan.manager.dispatch import Dispatcher
from titan.manager.event_log import EventLog
from titan.manager.garbage import Collector
from titan.manager.history import NICENESS, HistoryWriter
from titan.manager.history_desk import NONE_WRITTEN, HistoryDesk
from titan.manager.history_sync import HistorySync
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.submit import check_lease
from titan.manager.leadership import ALONE, Leadership
from titan.manager.metrics import ManagerMetrics
from titan.manager.past import PastDesk
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_files import SECRETS_NAME
from titan.manager.server import leader_handlers
from titan.manager.shell import Shell
from titan.manager.traces import TraceExporter, find_sampler

if TYPE_CHECKING:
    from titan.manager.door import Door
    from titan.manager.journal import FlushedJournal
    from titan.manager.keeper import Keeper
    from titan.manager.options import ManagerOptions
    from titan.manager.server import Services
    from titan.metrics.calls import Calls
    from titan.state import ClusterState

_log = logging.getLogger("titan.manager")

STOP_GRACE_SECONDS: Final = 1.0
# A disk that only is slow is not full.
ROOM_SECONDS: Final = 2.0

Helpers = list[Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a term begins on."""

    state: ClusterState
    journal: FlushedJournal
    """Not started yet."""
    leadership: Leadership = ALONE
    recovery_us: int
    """How long it took to come to that state."""
    records: int
    """How many were replayed for it."""
    snapshot_lsn: int
    """Where the replay began; 0: at the first record."""


class Term:
    """One term of one manager."""

    def __init__(self, options: ManagerOptions, door: Door, calls: Calls, ground: Ground) -> None:
        """Makes what is needed and begins nothing. `calls` counts the calls, if they are.

        Raises StartRefused.
        """
        # What it refuses is refused before a record tells of a start.
        sampler = find_sampler(options.data_directory, os.environ)
        # Modules and what was recovered: no search for cycles needs to go through them again.
        self._collector = Collector()
        self._options = options
        self._door = door
        self._ground = ground
        self._settings = options.settings()
        self._dispatcher = Dispatcher(door.peers.files if door.peers else None)
        shell = self.shell = Shell(
            Kernel(ground.state, self._settings),
            ground.journal,
            self._dispatcher,
            ground.leadership,
        )
        shell.recovery_us, shell.recovered_records = ground.recovery_us, ground.records
        shell.sampler = sampler
        self._metrics: ManagerMetrics | None = None
        if door.metrics is not None:
            self._metrics = ManagerMetrics(shell, ground.journal, options.data_directory, calls)
        # Of jobs that ended while nobody looked nothing is left when the first call comes.
        self._secret_desk = SecretDesk(shell, options.data_directory / SECRETS_NAME)
        self._dispatcher.bind(shell, self._secret_desk)

    async def run(
        self,
        open_services: Callable[[], Awaitable[Services]],
        keeper: Keeper,
        until: asyncio.Event,
        *,
        beside: Helpers,
        on_failure: Callable[[BaseException], None],
        step_down: Callable[[], None] | None = None,
        on_quiet: Callable[[], Awaitable[None]] | None = None,
        grace_seconds: float = STOP_GRACE_SECONDS,
    ) -> None:
        """Leads until `until` is set. Then all that was decided is appended, and nobody is called.

        Calls under way have `grace_seconds` to end in; after that `on_quiet` is waited for, when
        nothing will be decided any more, and before all that runs beside has ended.

        `open_services` gives what is to answer, when it is sure that there is room to lead.
        `keeper` looks after the manager's files. `beside` is run for as long as it leads.
        `on_failure`: see `Journal.start`; `step_down`: see `leader_handlers`.
        """
        options, shell, state = self._options, self.shell, self._ground.state
        _warn_of_leases(state, self._settings)
        self._ground.journal.start(on_failure)
        shell.write_start(
            cluster_id=uuid.uuid4().bytes, epoch=secrets.randbits(63), version=__version__
        )
        shell.flush_turn()
        if not await self._wait_room_to_start(until):
            for each in beside:
                each.close()
            if on_quiet is not None:
                await on_quiet()
            return
        data_directory.write_description(options.data_directory, state.cluster_id)
        past = PastDesk(options.data_directory, log_format=options.log_format)
        history = HistoryDesk(NONE_WRITTEN if options.history_url is None else "")
        services = await open_services()
        handlers = leader_handlers(
            services.entry, shell, self._dispatcher, past, self._secret_desk, history=history,
            history_sync=HistorySync(history) if options.history_sync else None,
            step_down=step_down,
        )  # fmt: skip
        await services.lead(handlers, self._ground.leadership)
        await services.start()
        self._tell_ready()
        if self._metrics is not None and self._door.metrics is not None:
            self._metrics.keeper = keeper
            self._door.metrics.start(
                self._metrics.read, self._metrics.look, self._ground.leadership.leads
            )
            beside.append(self._metrics.run_probe())
        deciding = [
            asyncio.create_task(each) for each in (shell.run_ticks(), EventLog(shell).run())
        ]
        helpers = (self._collector.run(), *self._helpers(history), *beside)
        running = [asyncio.create_task(each) for each in helpers]
        try:
            await until.wait()
        finally:
            # Calls under way get their answers, which need the log; then nothing is decided any
            # more.
            await services.health.enter_graceful_shutdown()
            self._dispatcher.release_polls()
            await self._door.server.stop(grace_seconds)
            await end_all(deciding)
            await self._dispatcher.close()
            shell.flush_turn()
            if on_quiet is not None:
                await on_quiet()
            await end_all(running)
            await past.close()
            await self._secret_desk.close()

    def _helpers(self, history: HistoryDesk) -> Helpers:
        """What runs beside, for as long as this one leads."""
        helpers = self._export_traces()
        if self._options.history_url is not None:
            helpers.append(self._write_history(self._options.history_url, history))
        return helpers

    def _write_history(self, url: str, desk: HistoryDesk) -> Coroutine[Any, Any, None]:
        options = self._options
        return HistoryWriter(
            options.data_directory,
            url,
            desk,
            niceness=0 if options.history_sync else NICENESS,
            log_level=options.log_level,
            log_format=options.log_format,
        ).run()

    def _export_traces(self) -> Helpers:
        """What has traces exported, if that is wished for."""
        if self.shell.sampler is None:
            return []
        options = self._options
        exporter = TraceExporter(
            options.data_directory,
            self.shell.started_us,
            log_level=options.log_level,
            log_format=options.log_format,
        )
        return [exporter.run()]

    def _tell_ready(self) -> None:
        ground = self._ground
        _log.info(
            LogLine(
                "the manager is ready",
                address=self._door.address,
                directory=self._options.data_directory,
                cluster=ground.state.cluster_id.hex(),
                snapshot_lsn=ground.snapshot_lsn,
                records=ground.records,
                jobs=len(ground.state.jobs),
                recovery_ms=round(ground.recovery_us / 1000, 1),
            )
        )

    async def _wait_room_to_start(self, until: asyncio.Event) -> bool:
        """Until the first record is durable; False: it is to stop before there is room."""
        shell, journal = self.shell, self._ground.journal
        durable = asyncio.create_task(shell.wait_durable(shell.lsn))
        waits = {durable, asyncio.create_task(until.wait())}
        try:
            done, _ = await asyncio.wait(
                waits, timeout=ROOM_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                _log.error(LogLine("no room to start: waiting for it", **journal.room_fields()))
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return durable in done and not durable.exception()
        finally:
            for each in waits:
                each.cancel()


async def end_all(running: list[asyncio.Task[None]]) -> None:
    """Cancels them and waits for their ends."""
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _warn_of_leases(state: ClusterState, settings: Settings) -> None:
    """Jobs may have been accepted under a longer timeout than there is now."""
    if not any(each.at_most_once for each in state.classes.values()):
        return
    try:
        check_lease(settings)
    except Refused as error:
        _log.warning("there are such jobs from before: %s", error)
