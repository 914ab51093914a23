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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from titan import __version__
from titan.errors import Refused
from titan.logs import LogLine
from titan.manager import directory as data_directory
from titan.manager.dispatch import Dispatcher
from titan.manager.event_log import EventLog
from titan.manager.garbage import Collector
from titan.manager.history_desk import HistoryDesk
from titan.manager.history_sync import HistorySync
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.submit import check_lease
from titan.manager.leadership import ALONE, Leadership
from titan.manager.metrics import ManagerMetrics
from titan.manager.past import PastDesk
from titan.manager.secret_desk import SecretDesk
from titan.manager.server import leader_handlers
from titan.manager.shell import Shell
from titan.manager.start import Helpers
from titan.manager.traces import TraceExporter, find_sampler

if TYPE_CHECKING:
    from titan.manager.door import Door
    from titan.manager.journal import FlushedJournal
    from titan.manager.keeper import Keeper
    from titan.manager.options import ManagerOptions
    from titan.manager.secret_store import SecretStore
    from titan.manager.server import Services
    from titan.metrics.calls import Calls
    from titan.state import ClusterState

_log = logging.getLogger("titan.manager")

STOP_GRACE_SECONDS: Final = 1.0
# A disk that only is slow is not full.
ROOM_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a term begins on."""

    state: ClusterState
    journal: FlushedJournal
    """Not started yet."""
    secret_store: SecretStore
    leadership: Leadership = ALONE
    recovery_us: int
    """How long it took to come to that state."""
    records: int
    """How many were replayed for it."""
    snapshot_lsn: int
    """Where the replay began; 0: at the first record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a term needs of who runs the manager, and what is done when."""

    open_services: Callable[[], Awaitable[Services]]
    """Gives what is to answer, once it is sure that there is room to lead."""
    keeper: Keeper
    """Looks after the manager's files."""
    beside: Helpers
    """What runs for as long as the term lasts."""
    history: HistoryDesk
    """Asks the history; who writes it is among `beside`, if anybody does."""
    on_failure: Callable[[BaseException], None]
    """See `Journal.start`."""
    step_down: Callable[[], None] | None = None
    """See `leader_handlers`."""
    on_quiet: Callable[[], Awaitable[None]] | None = None
    """Waited for when nothing will be decided any more, before all that runs beside has ended."""
    grace_seconds: float = STOP_GRACE_SECONDS
    """How long calls under way may take to end."""


class Term:
    """One term of one manager."""

    def __init__(self, options: ManagerOptions, door: Door, calls: Calls, ground: Ground) -> None:
        """Makes what is needed and begins nothing. `calls` counts the calls, if they are.

        Blocks for what stands in the store of secrets. Raises StartRefused, OSError, SecretsAway.
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
        self._secret_desk = SecretDesk(shell, ground.secret_store)
        self._dispatcher.bind(shell, self._secret_desk)

    async def run(self, course: Course, until: asyncio.Event) -> None:
        """Leads until `until` is set. Then all that was decided is appended, and nobody called."""
        options, shell, state = self._options, self.shell, self._ground.state
        _warn_of_leases(state, self._settings)
        self._ground.journal.start(course.on_failure)
        # The loop may meet a failure before the thread that writes has told of it.
        shell.on_log_failed = course.on_failure
        shell.write_start(
            cluster_id=uuid.uuid4().bytes, epoch=secrets.randbits(63), version=__version__
        )
        shell.flush_turn()
        if not await self._wait_room_to_start(until):
            for each in course.beside:
                each.close()
            if course.on_quiet is not None:
                await course.on_quiet()
            return
        data_directory.write_description(options.data_directory, state.cluster_id)
        past = PastDesk(options.data_directory, log_format=options.log_format)
        services = await course.open_services()
        handlers = leader_handlers(
            services.entry, shell, self._dispatcher, past, self._secret_desk,
            history=course.history,
            history_sync=HistorySync(course.history) if options.history_sync else None,
            step_down=course.step_down,
        )  # fmt: skip
        await services.lead(handlers, self._ground.leadership)
        await services.start()
        self._tell_ready()
        helpers = [self._collector.run(), *self._export_traces(), *course.beside]
        if self._metrics is not None and self._door.metrics is not None:
            self._metrics.keeper = course.keeper
            self._door.metrics.start(
                self._metrics.read, self._metrics.look, self._ground.leadership.leads
            )
            helpers.append(self._metrics.run_probe())
        deciding = [
            asyncio.create_task(each) for each in (shell.run_ticks(), EventLog(shell).run())
        ]
        running = [asyncio.create_task(each) for each in helpers]
        try:
            await until.wait()
        finally:
            # Calls under way get their answers, which need the log; then nothing is decided any
            # more.
            await services.health.enter_graceful_shutdown()
            self._dispatcher.release_polls()
            await self._door.server.stop(course.grace_seconds)
            await end_all(deciding)
            await self._dispatcher.close()
            shell.flush_turn()
            if course.on_quiet is not None:
                await course.on_quiet()
            await end_all(running)
            await past.close()
            await self._secret_desk.close()

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
                what = "the first record is not durable" if journal.room else "no room to start"
                _log.error(LogLine(f"{what}: waiting for it", **journal.room_fields()))
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
