"""The server of the shared journal, as PostgreSQL with a synchronous standby behaves.

Whatever changes something is a change in the server's own log. It holds its locks, seen by nobody,
until the standby has that log so far; then it is answered and seen. An append shares the lease's
row with those that renew it and keeps out who would take it; two of one LSN wait for each other.

Faults: the server is restarted, when what it had begun to write is there or not, and what is
there is seen at once, whether the standby has it or not. It fails over to the standby, which has
all that was answered, and some of what was not. The standby falls behind, and those who wait for
it are cancelled: they are told that it is done, with a warning. It is full for a while, or slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc

import wal
from tests.simulation.network import Answer, Network, Reply
from tests.simulation.several.statements import (
    Append,
    Diverged,
    Done,
    Full,
    Lease,
    LeaseFound,
    ReadLease,
    ReadRows,
    Renew,
    RowsFound,
    Statement,
    Take,
)
from tests.simulation.world import World
from titan.journal.rows import Row

NODE: Final = "journal"
ROWS_MAX: Final = 20
# How far the clocks of the two servers are from each other. The managers' margin has to be more.
SKEW_US_MAX: Final = 200_000
# How fast a clock may run, in millionths more or less than another's.
DRIFT_MAX: Final = 10_000


@dataclass(eq=False)
class Change:
    """Of a row, or of the lease."""

    what: Row | Lease
    statement: Append | Take | Renew
    reply: Reply | None
    is_seen: bool = False
    is_received: bool = False
    """The standby has it: it is never lost."""
    is_lost: bool = False


class Server:
    """The primary of the moment."""

    node = NODE

    def __init__(self, world: World, network: Network) -> None:
        self._world = world
        self._network = network
        self.is_alive = True
        self.log_id = world.random.randbytes(16)
        self._drift = world.random.randint(-DRIFT_MAX, DRIFT_MAX)
        self._skew_us = 0
        self._changes: list[Change] = []
        self._blocked: list[tuple[Append | Take | Renew, Reply]] = []
        # What is seen.
        self.rows: list[Row] = []
        self.lease = Lease()
        self._last_received_us = 0
        self._is_full_until_us = self._is_slow_until_us = self._lags_until_us = 0
        self._cancels_at_us = 0
        # Told of each row that is never lost, of each that is seen, and of each new term.
        self.on_received: Callable[[Row], None] = _nothing
        self.on_seen: Callable[[Row], None] = _nothing
        self.on_term: Callable[[Lease], None] = _nothing
        # Woken by each row that is seen.
        self.listeners: dict[str, Callable[[], None]] = {}
        network.servers[NODE] = self

    def now_us(self) -> int:
        """clock_timestamp()."""
        elapsed_us = self._world.elapsed_us
        return elapsed_us + elapsed_us * self._drift // 1_000_000 + self._skew_us

    @property
    def end(self) -> wal.Position:
        """Where the log ends that is seen."""
        return self._position(self.rows[-1] if self.rows else None)

    def log(self) -> list[bytes]:
        """The payloads of all records that are seen."""
        return [record.payload for row in self.rows for batch in row.records() for record in batch]

    # Faults -----------------------------------------------------------------------------------

    def restart(self, down_us: int) -> None:
        """It dies, and comes back with what it had written."""
        if not self.is_alive:
            return
        self._world.count("journal restarted")
        self._go_down(down_us)

    def fail_over(self, down_us: int) -> None:
        """The standby takes its place."""
        if not self.is_alive:
            return
        self._world.count("journal failed over")
        self._go_down(down_us)
        for each in self._changes:
            self._note_received(each)
        self._skew_us = self._world.random.randint(-SKEW_US_MAX, SKEW_US_MAX) // 2

    def fill(self, for_us: int) -> None:
        """There is no room for more rows."""
        self._is_full_until_us = self._world.now_us + for_us

    def slow(self, for_us: int) -> None:
        """Each commit takes long."""
        self._is_slow_until_us = self._world.now_us + for_us

    def lag(self, for_us: int, *, cancels: bool) -> None:
        """The standby receives nothing; whoever waits for it is cancelled, or not."""
        self._lags_until_us = self._world.now_us + for_us
        if cancels:
            self._cancels_at_us = self._lags_until_us
            self._world.after(for_us // 2, self._cancel)

    def calm(self) -> None:
        """It has room again, and the standby keeps up."""
        self._is_full_until_us = self._is_slow_until_us = self._lags_until_us = 0

    def _go_down(self, down_us: int) -> None:
        """What is kept of what nobody was told: a part of it, in its order."""
        self.is_alive = False
        received = sum(each.is_received for each in self._changes)
        kept = self._world.random.randint(received, len(self._changes))
        lost = [each for each in self._changes[kept:] if isinstance(each.what, Row)]
        if any(each.is_seen for each in lost):
            self._world.count("rows lost that were seen")
        if lost:
            self._world.count("rows lost that were not acknowledged", len(lost))
        for each in self._changes[kept:]:
            each.is_lost = True
        del self._changes[kept:]
        self._blocked.clear()
        for each in self._changes:
            each.is_seen = True
            each.reply = None
        self._look()
        self._world.note(f"the journal goes down at {self.end.lsn} of term {self.lease.term}")
        self._network.died(self)
        self._world.after(down_us, self._come_up)

    def _come_up(self) -> None:
        self.is_alive = True
        self._world.note("the journal is up")
        for each in self._changes:
            if not each.is_received:
                self._receive_later(each)

    def _look(self) -> None:
        """What is seen follows from the changes."""
        seen = [each.what for each in self._changes if each.is_seen]
        self.rows = [each for each in seen if isinstance(each, Row)]
        leases = [each for each in seen if isinstance(each, Lease)]
        self.lease = leases[-1] if leases else Lease()

    # Statements -------------------------------------------------------------------------------

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """A statement."""
        statement: Statement = request
        match statement:
            case ReadLease():
                lease = self.lease
                found = LeaseFound(lease.term, lease.holder, lease.expires_us - self.now_us())
                reply(Answer(grpc.StatusCode.OK, found))
            case ReadRows():
                reply(Answer(grpc.StatusCode.OK, self._read(statement.after)))
            case Append() | Take() | Renew():
                self._blocked.append((statement, reply))
                self._go_on()

    def _read(self, after: wal.Position | None) -> RowsFound | Diverged:
        start = self._position(None)
        after = after or start
        at = 0
        if after != start:
            at = next((i for i, each in enumerate(self.rows, 1) if each.last_lsn == after.lsn), -1)
            if at < 0 or self._position(self.rows[at - 1]) != after:
                return Diverged()
        return RowsFound(self.log_id, tuple(self.rows[at : at + ROWS_MAX]))

    def _go_on(self) -> None:
        """Whoever waits for no lock any more is served, in the order of their coming."""
        for each in tuple(self._blocked):
            if each in self._blocked and not self._must_wait(each[0]):
                self._blocked.remove(each)
                self._execute(*each)

    def _must_wait(self, statement: Append | Take | Renew) -> bool:
        """Whether another that is under way holds a lock that it wants."""
        under_way = [each for each in self._changes if not each.is_seen]
        match statement:
            case Append():
                return any(
                    isinstance(each.statement, Take)
                    or (isinstance(each.what, Row) and _share_lsns(each.what, statement.row))
                    for each in under_way
                )
            case Take():
                return self._take_must_wait(under_way)
            case Renew():
                return any(isinstance(each.what, Lease) for each in under_way)

    def _take_must_wait(self, under_way: list[Change]) -> bool:
        """An append under way shares the lease's row."""
        return bool(under_way)

    def _execute(self, statement: Append | Take | Renew, reply: Reply) -> None:
        lease, now_us = self.lease, self.now_us()
        if isinstance(statement, Append) and self._world.now_us < self._is_full_until_us:
            self._world.count("journal full")
            reply(Answer(grpc.StatusCode.OK, Full()))
            return
        what: Row | Lease
        is_done = False
        match statement:
            case Append():
                is_done = self._may_append(statement)
                what = statement.row
            case Take():
                is_done = self._is_over(statement)
                what = Lease(lease.term + 1, statement.holder, now_us + statement.us)
            case Renew():
                is_done = statement.term == lease.term
                what = lease._replace(expires_us=now_us + statement.us)
        if not is_done:
            self._world.count(f"refused: {type(statement).__name__}")
            reply(Answer(grpc.StatusCode.OK, Done(is_done=False)))
            return
        change = Change(what, statement, reply)
        self._changes.append(change)
        self._receive_later(change)

    def _may_append(self, statement: Append) -> bool:
        return self._has_term(statement) and self._is_next(statement)

    def _has_term(self, statement: Append) -> bool:
        return statement.term == self.lease.term

    def _is_next(self, statement: Append) -> bool:
        """The row before is there, and no other behind it."""
        return statement.before == self.end

    def _is_over(self, statement: Take) -> bool:
        """Whether nobody else has the lease."""
        is_own = self.lease.holder == statement.holder
        return is_own or self.lease.expires_us <= self.now_us()

    # The standby ------------------------------------------------------------------------------

    def _receive_later(self, change: Change) -> None:
        """In the order of the changes."""
        world = self._world
        delay_us = world.random.randint(100, 400_000 if world.chance(2) else 3_000)
        if world.now_us < self._is_slow_until_us:
            world.count("slow commit")
            delay_us = world.random.randint(100_000, 3_000_000)
        at_us = max(world.now_us + delay_us, self._last_received_us, self._lags_until_us)
        self._last_received_us = at_us
        world.after(at_us - world.now_us, partial(self._receive, change))

    def _receive(self, change: Change) -> None:
        if self.is_alive and not change.is_lost and not change.is_received:
            self._note_received(change)
            self._finish(change, warned=False)

    def _note_received(self, change: Change) -> None:
        if not change.is_received:
            change.is_received = True
            if isinstance(change.what, Row):
                self.on_received(change.what)

    def _cancel(self) -> None:
        """Somebody cancels all that wait for the standby, until it receives something again."""
        if self._world.now_us >= min(self._lags_until_us, self._cancels_at_us):
            return
        for each in [each for each in self._changes if not each.is_seen]:
            self._world.count("wait for the standby cancelled")
            self._finish(each, warned=True)
        self._world.after(100_000, self._cancel)

    def _finish(self, change: Change, *, warned: bool) -> None:
        """It is seen, answered and lets its locks go."""
        if not change.is_seen:
            change.is_seen = True
            if isinstance(change.what, Row):
                self.on_seen(change.what)
                self.rows.append(change.what)
                for wake in self.listeners.values():
                    self._world.after(self._world.random.randint(100, 3_000), wake)
            else:
                is_new = change.what.term != self.lease.term
                self.lease = change.what
                if is_new:
                    self.on_term(self.lease)
        reply, change.reply = change.reply, None
        if reply is not None:
            reply(Answer(grpc.StatusCode.OK, Done(True, self.lease.term, warned)))
        self._go_on()

    def _position(self, row: Row | None) -> wal.Position:
        if row is None:
            return wal.Position(self.log_id, 0, wal.first_chain(self.log_id))
        return wal.Position(self.log_id, row.last_lsn, row.chain)


def _nothing(_: object) -> None:
    pass


def _share_lsns(one: Row, other: Row) -> bool:
    return one.first_lsn <= other.last_lsn and other.first_lsn <= one.last_lsn
