"""The task host of the simulation: the real bookkeeping, invented processes.

Keeps the rules of `titan/worker/host/host.py`: one turn performs the actions in order, writes
the journal (before each spawn, too), then sends the reports; so many spawns in a turn. It
may die between any two actions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from tests.simulation.link import Link
from tests.simulation.machine import Machine, Process
from tests.simulation.world import Clockwork
from titan.model import AttemptKey
from titan.worker import protocol
from titan.worker.host import actions as host_actions
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.records import Record, Recovered, recover
from titan.worker.host.timers import Timers
from titan.worker.messages import Exit, Report
from titan.worker.signals import SIGCONT, SIGSTOP

IDLE_US: Final = 10_000_000
GRACE_MS: Final = 10_000
SPAWNS_PER_TURN: Final = 16
_HOLDS: Final[dict[type[host_actions.Action], tuple[int, ...]]] = {
    host_actions.Suspend: (SIGSTOP,),
    host_actions.Resume: (SIGCONT,),
}


class HostDied(BaseException):
    """It was killed in the middle of a turn. Not an Exception: nothing may handle it."""


class SimHost:
    """One host process."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._world = machine.world
        self.clockwork = Clockwork(machine.world, machine.clockwork)
        self.is_alive = True
        # It dies before the action after so many; -1: it does not.
        self.dies_after = -1
        self.link: Link | None = None
        self._instance = self._world.random.randbytes(16)
        machine.host_starts += 1
        self._starts = machine.host_starts
        self.book = Bookkeeping(self._recover())
        self._written: list[Record] = []
        self._rewrite_journal()
        self._actions: deque[host_actions.Action] = deque()
        self._reports: list[Report] = []
        self._pids: dict[AttemptKey, int] = {}
        self._timers = Timers(self.book.is_live)
        # When it looks next for what is due.
        self._rings_us = math.inf
        self._detach_us = IDLE_US
        self._alone_since: int | None = self._machine.awake_us()
        self._leaves_with_agent = False
        self._has_left = False
        self.clockwork.after(IDLE_US, self._look)

    def die(self) -> None:
        """Killed: its tasks run on, what it had in memory is gone."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._world.note(f"{self._machine.name} host is gone")
        self._machine.witness.orphaned(self._pids)
        if self.link is not None:
            self.link.host_gone()

    # The agent --------------------------------------------------------------------------------

    def connected(self, link: Link) -> None:
        """A newer agent has connected."""
        if self.link is not None:
            self.link.drop_agent()
        self.link = link
        self._alone_since = None

    def disconnected(self, link: Link) -> None:
        """The agent is gone."""
        if self.link is not link or not self.is_alive:
            return
        self.link = None
        self._alone_since = self._machine.awake_us()
        self.clockwork.after(min(IDLE_US, self._detach_us), self._look)
        self._turn()

    def receive(self, message: protocol.Message) -> None:
        """The agent says something."""
        book, now_us = self.book, self._machine.wall_us()
        match message:
            case protocol.Hello():
                self._turn_with(lambda: self._greet(message))
            case protocol.StartTasks():
                self._do(book.start(message.batch, now_us))
            case protocol.StopTasks():
                self._do(book.stop(message.stops, now_us))
            case protocol.Acknowledge():
                self._do(book.acknowledge(message.report_seq))
            case protocol.Cluster():
                self._do(book.join(message.cluster_id))
            case protocol.Lease():
                self._do(book.renew_lease(message.until_us, self._world.elapsed_us, now_us))
            case protocol.Leave():
                self._leaves_with_agent = True
                self._do(book.leave(message.grace_ms, now_us))
            case _:
                raise AssertionError(message)
        self._turn()

    def reap(self, process: Process, how: Exit) -> None:
        """A task has ended."""
        self.clockwork.run(partial(self._reap, process, how))

    def _reap(self, process: Process, how: Exit) -> None:
        if not self.is_alive:
            return
        del self._pids[process.key]
        self._timers.end(process.key)
        self._do(self.book.exited(process.key, how, self._machine.wall_us()))
        self._turn()

    def _greet(self, hello: protocol.Hello) -> None:
        assert self.link is not None
        version = (protocol.VERSION_MAJOR, protocol.VERSION_MINOR, 1)
        if self.book.is_leaving:
            self.link.to_agent(protocol.Refused(*version, "it is stopping its tasks", True))
            return
        self._detach_us = hello.detach_limit_ms * 1000
        while self._actions:
            self._perform()
        self._flush_journal()
        self._reports.clear()
        self.link.to_agent(
            protocol.Welcome(
                *version, self._instance, self.book.cluster_id, tuple(self.book.live()),
                tuple(self.book.reports), self.book.last_report_seq, starts=self._starts,
            )
        )  # fmt: skip

    # A turn -----------------------------------------------------------------------------------

    def _do(self, actions: Iterable[host_actions.Action]) -> None:
        self._actions.extend(actions)

    def _turn_with(self, part: object) -> None:
        assert callable(part)
        try:
            part()
        except HostDied:
            self.die()

    def _turn(self) -> None:
        if not self.is_alive:
            return
        try:
            self._perform()
        except HostDied:
            self._world.count("host died in a turn")
            self.die()
            return
        self._flush_journal()
        if self._reports:
            if self.link is not None:
                self.link.to_agent(protocol.Reports(tuple(self._reports)))
            self._reports.clear()
        self.book.check_invariants()
        if self._actions:
            self.clockwork.after(500, self._turn)
        elif self._is_over():
            self.die()

    def _perform(self) -> None:
        spawned = 0
        signals: list[tuple[AttemptKey, int]] = []
        while self._actions and spawned < SPAWNS_PER_TURN:
            if self.dies_after == 0:
                raise HostDied
            self.dies_after -= self.dies_after > 0
            action = self._actions.popleft()
            match action:
                case host_actions.Journal():
                    self._written.append(action.record)
                case host_actions.Emit():
                    self._reports.append(action.report)
                case host_actions.Spawn():
                    self._spawn(action)
                    spawned += 1
                case host_actions.Signal():
                    signals.append((action.key, action.signal))
                case (
                    host_actions.StartTimer()
                    | host_actions.DropLimit()
                    | host_actions.Suspend()
                    | host_actions.Resume()
                ):
                    self._timers.perform(action, self._seconds())
                    signals += [(action.key, each) for each in _HOLDS.get(type(action), ())]
                case host_actions.Left():
                    self._has_left = True
                    if self.link is not None:
                        self.link.to_agent(protocol.LeftAll())
                case _:
                    raise AssertionError(action)
        self._send_signals(signals)
        self._wait_for_timers()

    def _send_signals(self, signals: list[tuple[AttemptKey, int]]) -> None:
        for key, number in signals:
            pid = self._pids.get(key)
            if pid is not None:
                self._machine.signal(pid, number)

    def _spawn(self, action: host_actions.Spawn) -> None:
        self._flush_journal()
        now_us = self._machine.wall_us()
        if action.launch.at_most_once:
            self._do(self.book.check_lease(self._world.elapsed_us, now_us))
            if not self.book.may_begin(action.key):
                self._world.count("not leased")
                self._do(self.book.not_leased(action.key, now_us))
                return
        pid = self._machine.spawn(action.key, action.launch, self)
        if pid is None:
            self._world.count("not launched")
            self._do(self.book.not_launched(action.key, "no such program", now_us))
            return
        self._pids[action.key] = pid
        self._timers.begin(action.key, self._seconds())
        self._do(self.book.started(action.key, pid, self._world.elapsed_us // 10_000, now_us))

    # Time -------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self._machine.awake_us() / 1e6

    def _wait_for_timers(self) -> None:
        due, lease_due_us = self._timers.next_due, self.book.lease_due_us
        if lease_due_us is not None:
            # By a clock that counts the time in which the machine was suspended, too.
            due = min(due, (lease_due_us - self._world.elapsed_us) / 1e6 + self._seconds())
        if due == math.inf:
            return
        awake_us = self._machine.awake_us()
        due_us = max(math.ceil(due * 1e6), awake_us + 1)
        if due_us < self._rings_us:
            self._rings_us = due_us
            self.clockwork.after(due_us - awake_us, self._ring)

    def _ring(self) -> None:
        if not self.is_alive:
            return
        self._rings_us = math.inf
        for timer in self._timers.take_due(self._seconds()):
            self._do(self.book.timer_over(timer))
        self._do(self.book.check_lease(self._world.elapsed_us, self._machine.wall_us()))
        self._turn()

    # Its end ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Whether it has been alone for too long."""
        if not self.is_alive or self._alone_since is None:
            return
        alone_us = self._machine.awake_us() - self._alone_since
        to_come = [each - alone_us for each in (IDLE_US, self._detach_us) if each > alone_us]
        if to_come:
            self.clockwork.after(min(to_come), self._look)
        if alone_us >= self._detach_us and not self.book.is_leaving:
            if self.book.live_count:
                self._world.count("detached host stopped its tasks")
            self._do(self.book.leave(GRACE_MS, self._machine.wall_us()))
        self._turn()

    def _is_over(self) -> bool:
        if self._has_left:
            return not (self._leaves_with_agent and self.link is not None)
        if self._alone_since is None or not self.book.is_idle:
            return False
        return self._machine.awake_us() >= self._alone_since + IDLE_US

    # Journal ----------------------------------------------------------------------------------

    def _recover(self) -> Recovered:
        machine = self._machine
        recovered = recover(machine.journal)
        if machine.journal_boot == machine.boot:
            machine.kill_leftovers([each.key for each in recovered.unfinished])
        if recovered.ends:
            self._world.count("ends recovered")
        return recovered

    def _flush_journal(self) -> None:
        self._machine.journal += self._written
        for record in self._written:
            self._machine.witness.journaled(record)
        self._written.clear()

    def _rewrite_journal(self) -> None:
        self._machine.journal = list(self.book.records())
        self._machine.journal_boot = self._machine.boot
