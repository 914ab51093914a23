"""What each fault of several managers and their journal does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tests.simulation.faults import USERS
from tests.simulation.network import Network
from tests.simulation.several.machine import ReplicaMachine
from tests.simulation.several.plan import JournalFault, JournalFaultPlan
from tests.simulation.several.server import NODE, Server


class Struck:
    """All that may be struck."""

    def __init__(
        self, managers: Sequence[ReplicaMachine], server: Server, network: Network, journal: Network
    ) -> None:
        self.managers = managers
        self.server = server
        self.network = network
        self.journal = journal

    def strike(self, fault: JournalFaultPlan) -> None:
        """It happens now."""
        world = self.managers[0].world
        manager = self._manager(fault.manager)
        world.note(f"fault: {fault.fault.value}, {manager.node}, {fault.for_ms} ms")
        world.count(f"fault: {fault.fault.value}")
        _FAULTS[fault.fault](self, manager, fault)

    def leader(self) -> ReplicaMachine | None:
        """Who has the lease, as the journal has it."""
        holder = self.server.lease.holder.partition("/")[0]
        return next((each for each in self.managers if each.node == holder), None)

    def _manager(self, number: int) -> ReplicaMachine:
        leader = self.leader() if number < 0 else None
        return leader or self.managers[number % len(self.managers)]


def _restart(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.restart(fault.down_ms * 1000)


def _fail_over(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.fail_over(fault.down_ms * 1000)


def _fill(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.fill(fault.for_ms * 1000)


def _slow(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.slow(fault.for_ms * 1000)


def _lag(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.lag(fault.for_ms * 1000, cancels=False)


def _cancel(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.server.lag(fault.for_ms * 1000, cancels=True)


def _lose_after_cancel(struck: Struck, _: ReplicaMachine, fault: JournalFaultPlan) -> None:
    server, for_us = struck.server, fault.for_ms * 1000
    server.lag(for_us, cancels=True)
    struck.managers[0].world.after(for_us - 1, partial(server.fail_over, fault.down_ms * 1000))


def _cut_from_journal(struck: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.journal.cut(NODE, manager.node, fault.for_ms * 1000)
    struck.journal.cut(manager.node, NODE, fault.for_ms * 1000)


def _cut_to_journal(struck: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.journal.cut(manager.node, NODE, fault.for_ms * 1000)


def _cut_answers(struck: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    struck.journal.cut(NODE, manager.node, fault.for_ms * 1000)


def _cut_from_others(struck: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    for other in (*struck.network.workers, *USERS):
        struck.network.cut(manager.node, other, fault.for_ms * 1000)
        struck.network.cut(other, manager.node, fault.for_ms * 1000)


def _kill(_: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    if manager.is_up:
        manager.clockwork.run(lambda: manager.kill(fault.for_ms * 1000))


def _stall(_: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    manager.stall(fault.for_ms * 1000)


def _sleep(_: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    manager.sleep(fault.for_ms * 1000)


def _lose_copy(_: Struck, manager: ReplicaMachine, fault: JournalFaultPlan) -> None:
    if manager.is_up:
        manager.lose_power(fault.for_ms * 1000)
        manager.lose_disk()


_FAULTS: Final[dict[JournalFault, Callable[[Struck, ReplicaMachine, JournalFaultPlan], None]]] = {
    JournalFault.JOURNAL_RESTARTED: _restart,
    JournalFault.JOURNAL_FAILS_OVER: _fail_over,
    JournalFault.JOURNAL_FULL: _fill,
    JournalFault.JOURNAL_SLOW: _slow,
    JournalFault.STANDBY_LAGS: _lag,
    JournalFault.WAITS_CANCELLED: _cancel,
    JournalFault.LOST_AFTER_CANCEL: _lose_after_cancel,
    JournalFault.CUT_FROM_JOURNAL: _cut_from_journal,
    JournalFault.CUT_TO_JOURNAL: _cut_to_journal,
    JournalFault.CUT_ANSWERS: _cut_answers,
    JournalFault.CUT_FROM_OTHERS: _cut_from_others,
    JournalFault.LEADER_KILLED: _kill,
    JournalFault.LEADER_STALLS: _stall,
    JournalFault.LEADER_SLEEPS: _sleep,
    JournalFault.COPY_LOST: _lose_copy,
}
