"""The shell of the kernel: gives it time and random numbers, its events a log, its batches wings.

One asyncio loop, no locks: only the loop touches the state. What is decided in one turn
of the loop becomes one record; whatever depends on it leaves with `wait_durable`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

import wal
from titan import events as ev
from titan.errors import NotLeader, TitanError
from titan.manager.clock import Clock, Traffic, TurnClock
from titan.manager.feed import Feed
from titan.manager.journal import Journal
from titan.manager.kernel import Kernel
from titan.manager.kernel.commands import Command, ReportTasks, RequeueJobs, SetPolicy, SubmitJobs
from titan.manager.kernel.outbox import Outbox
from titan.manager.leadership import ALONE, Leadership, check_leads, not_leader
from titan.trace_context import Sampler

_log = logging.getLogger("titan.manager")

# EX_SOFTWARE in sysexits(3).
EXIT_BROKEN: Final = 70
TICK_SECONDS: Final = 0.2
# Under a flood a turn comes at most so often. Each costs the loop and the writer thread some
# 0.5 ms of switching to and fro, whatever it carries; 50 callers' submits a second rise by half.
GATHER_SECONDS: Final = 0.005
# A record takes 16 MiB, and one submit up to 12 of them: what was gathered in a turn is
# written before it, and never gathers to more than that many.
GATHERED_BYTES_MAX: Final = 2 * 1024 * 1024


class Dispatching(Protocol):
    """Whoever brings the outboxes' batches to the workers."""

    def wake(self, outbox: Outbox) -> None:
        """The outbox has something to send."""


class Shell:
    """Runs one kernel on one journal."""

    def __init__(
        self,
        kernel: Kernel,
        journal: Journal,
        dispatching: Dispatching,
        leadership: Leadership = ALONE,
    ) -> None:
        self.leadership: Final = leadership
        self.kernel = kernel
        self.journal = journal
        self.feed = Feed(kernel.state.lsn)
        self._dispatching = dispatching
        self._clock = Clock(not_before_us=kernel.state.time_us)
        self._turn_clock = TurnClock()
        self._loop = asyncio.get_running_loop()
        self._turn_is_planned = False
        self._last_turn = 0.0
        self._traffic = Traffic()
        self._gathered_bytes = 0
        # What replay cost, for GetStats.
        self.started_us = self._clock.now_us()
        self.recovery_us = 0
        self.recovered_records = 0
        # Of the traces of jobs, where they are exported.
        self.sampler: Sampler | None = None
        self._record_listeners: list[Callable[[int, Sequence[ev.Event]], None]] = []
        # Told of a record that the journal does not take any more. What it returns from has seen to
        # it that this manager leads no more.
        self.on_log_failed: Callable[[wal.LogFailed], None] = lambda _: stop_at_once(
            "the log takes no more"
        )

    @property
    def lsn(self) -> int:
        """What leaves now has to wait for this LSN: the last one that a decision was given."""
        return self.kernel.state.lsn

    def now_us(self) -> int:
        """The manager's time."""
        return self._clock.now_us()

    def execute(self, command: Command) -> Any:
        """Lets the kernel decide and returns its answer, which waits for `lsn`.

        Raises TitanError, when nothing changed, or nobody will ever hear of it.
        """
        kernel = self.kernel
        if isinstance(command, SubmitJobs | ReportTasks):
            self._gathered_bytes += command.size_bytes
            if self._gathered_bytes > GATHERED_BYTES_MAX:
                self._append()
                self._gathered_bytes = command.size_bytes
        elif isinstance(command, RequeueJobs | SetPolicy):
            # What these write may take most of a record.
            self._append()
        kernel.room = self.journal.room
        now_us = self._clock.now_us()
        self._traffic.note(now_us)
        before = (kernel.state.lsn, kernel.events_count)
        try:
            answer = kernel.decide(command, now_us, self._turn_clock.turned_us())
        except TitanError:
            raise
        except BaseException:
            if (kernel.state.lsn, kernel.events_count) != before:
                # Half a decision stands in the state and must reach neither log nor anybody.
                stop_at_once("a decision failed half way")
            raise
        self.plan_turn()
        return answer

    def plan_turn(self) -> None:
        """What was decided is scheduled on, written and sent once all that waits now is decided.

        Under a flood of calls it waits a little for more of them: one pass, one record and
        one flush then serve many, and every caller is answered sooner than one by one.
        """
        if self._turn_is_planned:
            return
        self._turn_is_planned = True
        wait_seconds = self._last_turn + GATHER_SECONDS - self._loop.time()
        if wait_seconds > 0 and self._traffic.is_flood():
            self._loop.call_later(wait_seconds, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def listen_to_records(self, listener: Callable[[int, Sequence[ev.Event]], None]) -> None:
        """It is called with each record that is appended, and not durable yet: LSN and events."""
        self._record_listeners.append(listener)

    async def wait_durable(self, lsn: int) -> None:
        """Returns when the record is durable: the only way out for anything.

        Raises NotLeader where the manager does not lead by then.
        """
        await self.journal.wait_durable(lsn)
        check_leads(self.leadership)

    def check_leads(self) -> None:
        """What depends on no record may leave. Raises NotLeader: nothing may."""
        check_leads(self.leadership)

    async def run_ticks(self) -> None:
        """Ticks until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            # After a stall the calls that wait in the sockets are heard before silence is judged.
            if not self._turn_clock.note_turn(int(TICK_SECONDS * 1e6)):
                _log.warning("the manager did not turn for a while; deadlines move along")
                continue
            self.kernel.room = self.journal.room
            try:
                self.kernel.tick(self._clock.now_us(), self._turn_clock.turned_us())
            except BaseException:  # noqa: BLE001  (ends the process)
                stop_at_once("a tick failed")
            self.plan_turn()

    def write_start(self, *, cluster_id: bytes, epoch: int, version: str) -> None:
        """The manager takes the log over: the first record of this run."""
        self.kernel.start(
            cluster_id=cluster_id,
            epoch=epoch,
            version=version,
            now_us=self._clock.now_us(),
            turned_us=self._turn_clock.turned_us(),
        )
        self.plan_turn()

    def flush_turn(self) -> None:
        """Ends the turn now, before the clean stop."""
        self._turn()

    def _turn(self) -> None:
        self._turn_is_planned = False
        self._last_turn = self._loop.time()
        kernel = self.kernel
        kernel.room = self.journal.room
        try:
            kernel.schedule(self._clock.now_us())
            self._append()
        except NotLeader:
            # Another one goes on, from what is durable; nobody hears of what this one decided.
            return
        except BaseException:  # noqa: BLE001  (ends the process)
            stop_at_once("a turn failed")
        if kernel.schedule_wanted and kernel.room:
            # The pass was cut at its limit and goes on after whoever waits.
            self.plan_turn()
        for outbox in kernel.take_ready_outboxes():
            self._dispatching.wake(outbox)

    def _append(self) -> None:
        self._gathered_bytes = 0
        lsn = 0
        while (record := self.kernel.take_record()) is not None:
            time_us, events = record
            try:
                lsn = self.journal.append(ev.encode_record(time_us, events))
            except wal.LogFailed as error:
                self.on_log_failed(error)
                raise not_leader(self.leadership) from error
            for listener in self._record_listeners:
                listener(lsn, events)
        if not lsn:
            return
        if lsn != self.kernel.state.lsn:
            stop_at_once(f"the log is at {lsn}, the state at {self.kernel.state.lsn}")
        self.feed.changed(self.kernel.take_changed_jobs(), lsn)


def stop_at_once(why: str) -> NoReturn:
    """Ends the process without another byte: the log is right, this memory may not be."""
    _log.critical("stopping at once: %s", why, exc_info=True)
    os._exit(EXIT_BROKEN)
