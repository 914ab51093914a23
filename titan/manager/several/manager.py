"""One of several managers that share a log in a database: it stands by, leads, and stands by anew.

To stand by: what the others write is brought into this manager's own copy of the log and into its
state, so that it can lead the moment that the lease is free. To lead: `term.py`, as any manager
does. After a term nothing of this process is trusted any more, because some of its state may never
have become durable: a new one takes its place, which begins with what the database has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wal
from titan.errors import Refused
from titan.journal.appender import Appender
from titan.journal.confirmed import ConfirmedTail
from titan.journal.errors import JournalUnavailable
from titan.journal.lease import LeaseTable
from titan.journal.mirror import Mirror
from titan.journal.prepare import prepare_mirror
from titan.logs import LogLine
from titan.manager import directory
from titan.manager.history import is_file
from titan.manager.leadership import not_leader
from titan.manager.past import PastDesk
from titan.manager.recovery import Recovered, StartRefused, recover
from titan.manager.secret_store import SecretsAway
from titan.manager.several.blocking import Blocking
from titan.manager.several.follower import Follower, NoRoomToFollow
from titan.manager.several.lease_holder import LeaseHolder
from titan.manager.several.own_copy import Copying, OwnCopy
from titan.manager.several.reaching import RETRY_SECONDS, Reaching, Stopped
from titan.manager.several.row_watch import watch_rows
from titan.manager.several.sealed_secrets import check_secrets_key, open_secret_store
from titan.manager.several.shared_journal import SharedJournal
from titan.manager.several.standby_metrics import StandbyMetrics
from titan.manager.several.standby_service import standby_handlers
from titan.manager.several.standby_view import StandbyView
from titan.manager.several.upkeep import Upkeep
from titan.manager.start import make_keeper, open_history, stop_on_failure
from titan.manager.term import Course, Ground, Term, end_all
from titan.state import ClusterState
from titan.state.cluster import IllegalEvent
from titan.state.replay import UnknownRecord

if TYPE_CHECKING:
    from titan.journal.database import Database
    from titan.manager.door import Door
    from titan.manager.history_desk import HistoryDesk
    from titan.manager.keeper import Keeper
    from titan.manager.options import ManagerOptions
    from titan.manager.server import Services
    from titan.metrics.calls import Calls

_log = logging.getLogger("titan.manager")

# Whoever waits is woken by what is written; this often it looks all the same.
POLL_SECONDS: Final = 1.0
TURN_SECONDS: Final = 0.5
# What is left to be copied when a term ends is fetched at the next start if it takes longer.
COPY_SECONDS: Final = 2.0
# Another manager takes over when calls under way have had that long to end.
GRACE_SECONDS: Final = 0.3
# So long the end of a term waits for the last records: whoever stops a manager waits for it.
HAND_OVER_SECONDS: Final = 3.0
LET_GO_SECONDS: Final = 2.0
# One that begins anew does it no more often, whatever the matter is.
LIFE_SECONDS_MIN: Final = 1.0


class _Post(NamedTuple):
    """What this manager stands on once it has the log."""

    found: Recovered
    own_copy: OwnCopy
    follower: Follower
    view: StandbyView
    keeper: Keeper
    recovery_us: int


class SharedManager:
    """The life of one such manager in one process."""

    def __init__(
        self,
        options: ManagerOptions,
        door: Door,
        services: Services,
        calls: Calls,
        database: Database,
        stop: asyncio.Event,
    ) -> None:
        """It ends when `stop` is set."""
        self._options = options
        self._calls = calls
        self._door = door
        self._services = services
        self._database = database
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._blocking = Blocking("journal")
        self._tail = ConfirmedTail(database)
        self._past = PastDesk(options.data_directory, log_format=options.log_format)
        # Set when this life is to end: on request, or because the lease is lost.
        self._until = asyncio.Event()
        self._reaching = Reaching(self._blocking, self._until)
        self._is_lost = False
        self._begins_anew = False
        self._is_described = False
        self._is_behind = False
        self._history: HistoryDesk | None = None
        self._upkeep: Upkeep | None = None
        address = options.advertised(door.address)
        self.lease = LeaseHolder(
            LeaseTable(database),
            taking=self._tail.lease,
            seconds=options.lease_seconds,
            address=address,
        )

    async def run(self) -> bool:
        """Until it is to stop; True: a new process is to take its place.

        Raises TitanError, wal.WalError, OSError.
        """
        begun = self._loop.time()
        running = [asyncio.create_task(each) for each in (self._pass_on_stop(), self._note_turns())]
        try:
            post = await self._take_post()
            running += self._look_after(post)
            await self._stand_by(post)
            await self._lead(post)
        except Stopped:
            pass
        except (
            JournalUnavailable, NoRoomToFollow, SecretsAway, wal.RecordsGone, wal.PositionMismatch
        ) as error:  # fmt: skip
            # The database went away in the middle of a take-over, or has not what this one has.
            self._begin_anew(error)
        except UnknownRecord as error:
            raise StartRefused(f"this manager cannot follow: {error}") from error
        except IllegalEvent as error:
            raise StartRefused(
                f"this manager cannot apply what another one has written: {error}; do all of them "
                "run the same version of Titan?"
            ) from error
        finally:
            await end_all(running)
            await self._past.close()
            await self._let_go()
            self._blocking.stop()
        if self._begins_anew:
            with suppress(TimeoutError):
                left_seconds = begun + LIFE_SECONDS_MIN - self._loop.time()
                await asyncio.wait_for(self._stop.wait(), max(left_seconds, 0.0))
        return self._begins_anew and not self._stop.is_set()

    def step_down(self) -> None:
        """Lets another one lead; called in the loop by whoever is asked to.

        Raises Refused where no other one is there.
        """
        if self._upkeep is None or not self._upkeep.others:
            raise Refused(
                "no other manager stands by: start one with the same --journal, or stop this one"
            )
        _log.info("stepping down: this manager was asked to")
        self._begins_anew = True
        self._until.set()

    async def _take_post(self) -> _Post:
        """Comes to the log: brings this manager's own copy in order, and a state from it.

        Raises Stopped, and what `run` does.
        """
        nothing = StandbyView(ClusterState(), _wall_us)
        nothing.close()
        await self._answer(nothing)
        await self._services.start()
        for warning in await self._reaching.reach(self._database.check_settings):
            _log.warning(LogLine("the database's settings", detail=warning))
        options = self._options
        await self._reaching.reach(
            lambda: prepare_mirror(
                self._database, options.data_directory, segment_bytes=options.segment_bytes
            )
        )
        begun_ns = time.monotonic_ns()
        # In a thread: it may take a while, in which this one is asked for its health, and stopped.
        found = await self._reaching.reach(
            lambda: recover(options.data_directory, segment_bytes=options.segment_bytes)
        )
        recovery_us = (time.monotonic_ns() - begun_ns) // 1000
        own_copy = OwnCopy(Mirror(found.log))
        view = StandbyView(found.state, _wall_us)
        follower = Follower(self._tail, own_copy, view, self._blocking)
        keeper = make_keeper(
            options,
            own_copy,
            found,
            # Other managers' clocks made it, too: it is at most as old as the last heartbeat.
            now_us=lambda: found.state.time_us,
            on_failure=stop_on_failure,
        )
        fault = await self._reaching.reach(
            lambda: check_secrets_key(
                options.secrets_key_path, self._database, own_copy.position.log_id
            )
        )
        if fault:
            _log.error(LogLine("the key of secrets", detail=fault))
        return _Post(found, own_copy, follower, view, keeper, recovery_us)

    async def _answer(self, view: StandbyView, past: PastDesk | None = None) -> None:
        """From now on by what is known there."""
        handlers = standby_handlers(self._services.entry, view, self.lease, past)
        await self._services.stand_by(handlers)
        if self._door.metrics is not None:
            metrics = StandbyMetrics(view, self.lease, self._calls, self._options.data_directory)
            self._door.metrics.start(metrics.read, metrics.look, self.lease.leads)

    def _look_after(self, post: _Post) -> list[asyncio.Task[Any]]:
        """What goes on while this one stands by as while it leads."""
        upkeep = self._upkeep = Upkeep(
            self._options.data_directory,
            self._database,
            self.lease,
            self.lease.address,
            post.found.state,
        )
        running = [post.keeper.run(), upkeep.run()]
        if is_file(self._options.history_url):
            # In this manager's own directory: it has to have what was while others led.
            self._history, writers = open_history(self._options)
            running += writers
        return [asyncio.create_task(each) for each in running]

    async def _stand_by(self, post: _Post) -> None:
        """Follows until this one has the lease, and all that was written before.

        Raises Stopped, wal.WalError, UnknownRecord, IllegalEvent.
        """
        follower = post.follower
        await self._answer(post.view, self._past)
        _log.info(LogLine("standing by", lsn=follower.position.lsn, address=self._door.address))
        while True:
            try:
                has_all = await self._follow(follower)
                await self._describe(post.found.state.cluster_id)
                await self._reaching.or_stop(self._blocking.run(self.lease.look))
                # One that could not bring the rest into its copy leaves it to those who can.
                if (
                    has_all
                    and self.lease.is_free_in_seconds <= 0
                    and await self._reaching.or_stop(self._blocking.run(self.lease.take))
                ):
                    break
                await self._reaching.or_stop(
                    follower.wait(min(POLL_SECONDS, self.lease.is_free_in_seconds))
                )
                self._reaching.note_back()
            except JournalUnavailable as error:
                await self._reaching.pause(error)
        self.lease.keep(self._note_lost)
        _log.info(LogLine("this manager takes over", term=self.lease.term))
        self._tail.note_taken()
        # Whoever led before can append nothing any more: what is there now is all.
        await self._reaching.or_stop(follower.catch_up())
        await self._reaching.or_stop(self._blocking.run(follower.close))
        post.view.close()
        await self._past.close()

    async def _follow(self, follower: Follower) -> bool:
        """Whether this one has all that there was."""
        try:
            await self._reaching.or_stop(follower.catch_up())
        except NoRoomToFollow as error:
            if not self._is_behind:
                self._is_behind = True
                _log.error(LogLine("this standby falls behind, and will not lead", detail=error))
            await self._reaching.or_stop(asyncio.sleep(RETRY_SECONDS))
            return False
        if self._is_behind:
            self._is_behind = False
            _log.info(LogLine("there is room to follow again", lsn=follower.position.lsn))
        return True

    async def _describe(self, cluster_id: bytes) -> None:
        """Says in the directory whose it is, once that is known, though it may never lead."""
        if self._is_described or not cluster_id:
            return
        try:
            await self._reaching.or_stop(
                self._blocking.run(
                    directory.write_description, self._options.data_directory, cluster_id
                )
            )
        except OSError as error:
            # A full disk, most likely; it is tried again.
            _log.debug("the directory is not described: %s", error)
            return
        self._is_described = True

    async def _lead(self, post: _Post) -> None:
        """One term, to its end."""
        options, follower = self._options, post.follower
        copying = Copying(post.own_copy, self._note_lost)
        appender = await self._blocking.run(
            Appender, self._database, self.lease.term, follower.position
        )
        journal = SharedJournal(appender, copying, str(self._database))
        ground = Ground(
            state=post.found.state,
            journal=journal,
            secret_store=await self._blocking.run(
                open_secret_store,
                options.secrets_key_path,
                self._database,
                follower.position.log_id,
                self.lease.term,
            ),
            leadership=self.lease,
            recovery_us=post.recovery_us,
            records=post.found.records,
            snapshot_lsn=post.found.snapshot_lsn,
        )
        term = Term(options, self._door, self._calls, ground)

        async def services() -> Services:
            return self._services

        async def hand_over() -> None:
            if not self._is_lost:
                await self._hand_over(journal)

        # Of a database that all of them write the history to, whoever leads does.
        history, writers = open_history(options) if self._history is None else (self._history, [])
        course = Course(
            open_services=services,
            keeper=post.keeper,
            beside=writers,
            history=history,
            on_failure=self._note_lost,
            step_down=self.step_down,
            on_quiet=hand_over,
            grace_seconds=GRACE_SECONDS,
        )
        watching = asyncio.create_task(watch_rows(journal))
        try:
            await term.run(course, self._until)
            # The lease may have ended before the first record was durable, and nothing after it.
            self._begin_anew(not_leader(self.lease))
        finally:
            self.lease.give_up()
            watching.cancel()
        if not self._is_lost:
            await self._blocking.run(copying.stop, COPY_SECONDS)

    async def _hand_over(self, journal: SharedJournal) -> None:
        """What was decided last becomes durable, if it can be soon; then another one may lead."""
        closing = asyncio.ensure_future(self._blocking.run(journal.close))
        await asyncio.wait((closing,), timeout=HAND_OVER_SECONDS)
        if not closing.done():
            journal.cut()
        try:
            await closing
        except wal.WalError as error:
            # Nobody was told of them.
            _log.warning("the last records may not be in the journal: %s", error)
        await self._let_go()

    async def _let_go(self) -> None:
        """Whoever leads next need not wait, if the database can be told so soon."""
        self.lease.give_up()
        if self.lease.may_be_taken:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._blocking.run(self.lease.let_go), LET_GO_SECONDS)

    async def _note_turns(self) -> None:
        while True:
            self.lease.note_turn()
            await asyncio.sleep(TURN_SECONDS)

    def _note_lost(self, error: BaseException) -> None:
        """This one leads no more, or nobody knows what it has written; called in any thread."""
        self.lease.give_up()
        self._is_lost = True

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_failure, error)

    def _note_failure(self, error: BaseException) -> None:
        if self._until.is_set():
            _log.warning(LogLine("the journal failed while this manager ended", detail=error))
        self._begin_anew(error)

    def _begin_anew(self, error: BaseException) -> None:
        if not self._until.is_set():
            _log.error(LogLine("this manager leads no more, and begins anew", detail=error))
            self._begins_anew = True
            self._until.set()

    async def _pass_on_stop(self) -> None:
        await self._stop.wait()
        self._until.set()


def _wall_us() -> int:
    return time.time_ns() // 1000
