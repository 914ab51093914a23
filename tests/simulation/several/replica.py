"""One process of several managers: it follows the journal, and leads once it has the lease.

Keeps the rules of the real one (`titan/manager/several`): a copy that is not in the journal is no
copy; the lease is asked for when it is over; whoever has it reads what is left of the journal
before it leads; nothing leaves it once its deadline has passed, which counts from before it asked;
who is deposed, in doubt or late ends, and a new process follows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import wal
from tests.simulation.network import Answer, Reply
from tests.simulation.several.addresses import not_leader
from tests.simulation.several.house import keep_house
from tests.simulation.several.leader import Leader
from tests.simulation.several.mirror import DIRECTORY, SEGMENT_BYTES, MirrorQueue
from tests.simulation.several.statements import (
    Diverged,
    Done,
    LeaseFound,
    ReadLease,
    ReadRows,
    Renew,
    RowsFound,
    Take,
)
from tests.simulation.world import Clockwork
from titan import events as ev
from titan.journal.lease import Deadline
from titan.journal.rows import Row, check
from titan.manager.recovery import Recovered, StartRefused, recover
from titan.state.cluster import ClusterState

if TYPE_CHECKING:
    from tests.simulation.several.machine import ReplicaMachine

LEASE_SECONDS: Final = 4.0
LEASE_US: Final = int(LEASE_SECONDS * 1e6)
RENEW_US: Final = LEASE_US // 3
ASK_US: Final = 2_000_000
POLL_US: Final = (50_000, 500_000)
LOOK_US: Final = (200_000, 600_000)
AGAIN_US: Final = 200_000


class Replica:
    """One process, from its start to its end."""

    def __init__(self, machine: ReplicaMachine) -> None:
        self.machine = machine
        self.world, self.node = machine.world, machine.node
        self.is_alive = True
        self.clockwork = Clockwork(machine.world, machine.clockwork)
        self.holder = f"{self.node}/{self.world.random.getrandbits(32):08x}"
        self._leader_address = ""
        self._deadline: Deadline | None = None
        self._term = 0
        self._is_reading = False
        self._is_taking = False
        self._polls = 0
        self.leader: Leader | None = None
        # Once the copy is open.
        self.state: ClusterState | None = None
        self.position: wal.Position | None = None
        self._ask(ReadRows(None), self._opened, self._open_again)

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """A call comes in."""
        self.run(partial(self._serve, method, request, reply))

    def _serve(self, method: str, request: Any, reply: Reply) -> None:
        if self.leader is None:
            reply(not_leader(self._leader_address))
        else:
            self.leader.serve(method, request, reply)

    def die(self) -> None:
        """The process is gone."""
        self.is_alive = False
        leader = self.leader
        if leader is not None:
            leader.is_alive = False
            if not leader.kernel.events_count:
                leader.view.looked_at(leader.kernel)
        if self.state is not None:
            self.mirror.is_alive = False

    def step_down(self, why: str) -> None:
        """It ends, and a new process follows."""
        if self.is_alive:
            self.world.note(f"{self.node} steps down: {why}")
            self.world.count(f"stepped down: {why}")
            self.machine.start_again()

    def stall(self, for_us: int) -> None:
        """It does nothing for so long."""
        longer_us = self.clockwork.hold(for_us)
        if self.leader is not None:
            self.leader.view.stands(longer_us)

    # The copy ---------------------------------------------------------------------------------

    def _open_again(self) -> None:
        self._later(AGAIN_US, lambda: self._ask(ReadRows(None), self._opened, self._open_again))

    def _opened(self, answer: Answer) -> None:
        """The journal is reached: now its copy is opened, or begun anew."""
        found: RowsFound = answer.message
        recovered = self.machine.in_calls(lambda: self._recover(found.log_id))
        if recovered is None:
            return
        self.state = recovered.state
        self.mirror = MirrorQueue(self.machine, recovered.log)
        self.position = recovered.log.position
        self.machine.network.servers[self.node] = self
        if recovered.snapshot_lsn:
            self.world.count("started from a snapshot")
        self.machine.server.listeners[self.node] = lambda: self.run(self._poll)
        self._poll()
        self._look_at_lease()
        self._keep_house()

    def _recover(self, log_id: bytes) -> Recovered:
        disk, random_bytes = self.machine.disk, self.world.random.randbytes
        start = wal.Position(log_id, 0, wal.first_chain(log_id))
        disk.make_directory(str(DIRECTORY))
        if not any(path.startswith(f"{DIRECTORY}/wal/") for path in disk.files):
            wal.begin(
                DIRECTORY / "wal", start, file_system=disk, segment_bytes=SEGMENT_BYTES,
                random_bytes=random_bytes,
            )  # fmt: skip
        try:
            found = recover(
                DIRECTORY, file_system=disk, segment_bytes=SEGMENT_BYTES,
                random_bytes=random_bytes, on_warning=self._warn,
            )  # fmt: skip
        except StartRefused as error:
            # Whatever is wrong with it: the journal has it all.
            self._warn(str(error))
            self.world.count("copy begun anew")
            self.machine.lose_disk()
            return self._recover(log_id)
        return found

    def _warn(self, message: str) -> None:
        self.world.note(f"{self.node}: log: {message}")

    def _poll(self) -> None:
        """Reads what is new, now and again."""
        if self.leader is not None or self._term or self._is_reading:
            # Once it has the lease it reads the rest by itself: two reads at once find the same.
            return
        self._polls += 1
        self._read_rows(partial(self._poll_again, self._polls))

    def _poll_again(self, number: int) -> None:
        def again() -> None:
            if number == self._polls:
                self._poll()

        self._later(self.world.random.randint(*POLL_US), again)

    def _read_rows(self, then: Callable[[], None]) -> None:
        """The next rows; `then` once they are applied, or none came."""
        self._is_reading = True

        def done() -> None:
            self._is_reading = False
            then()

        def found(answer: Answer) -> None:
            if self._apply(answer.message):
                done()

        self._ask(ReadRows(self.position), found, done)

    def _apply(self, found: RowsFound | Diverged) -> bool:
        if isinstance(found, Diverged):
            self.world.count("copy is not in the journal")
            self.machine.set_copy_aside()
            return False
        for row in found.rows:
            self._apply_row(row)
        return True

    def _apply_row(self, row: Row) -> None:
        state, position = self.state, self.position
        assert state is not None
        assert position is not None
        self.position = check(row, position)
        for batch in row.records():
            for lsn, payload in batch:
                state.apply_record(lsn, *ev.decode_record(payload))
                self.machine.witness.followed(lsn, payload, state)
        self.mirror.add(row)

    def _keep_house(self) -> None:
        if self.leader is None:
            keep_house(self.machine, self.mirror.log, self.machine.time_ns() // 1000)
            self._later(self.world.random.randint(2_000_000, 20_000_000), self._keep_house)

    # The lease --------------------------------------------------------------------------------

    def leads(self) -> bool:
        """Whether it counts on its lease."""
        return self._deadline is not None and self._deadline.holds(self.machine.boot_ns())

    def _look_at_lease(self) -> None:
        if not self._term:
            self._ask(ReadLease(), self._saw_lease, self._look_again)

    def _look_again(self, left_us: int = LOOK_US[1]) -> None:
        """Soon after it is over, or has been renewed."""
        soon_us = max(left_us, 0) + self.world.random.randint(1_000, 50_000)
        self._later(min(self.world.random.randint(*LOOK_US), soon_us), self._look_at_lease)

    def _saw_lease(self, answer: Answer) -> None:
        lease: LeaseFound = answer.message
        self._look_again(lease.left_us)
        self._leader_address = lease.holder.partition("/")[0] if lease.left_us > 0 else ""
        is_free = lease.left_us <= 0 or lease.holder == self.holder
        if is_free and not self._term and not self._is_taking:
            self._is_taking = True
            asked_ns = self.machine.boot_ns()
            self._ask(
                Take(self.holder, LEASE_US), partial(self._took, asked_ns), self._took_nothing
            )

    def _took(self, asked_ns: int, answer: Answer) -> None:
        done: Done = answer.message
        self._took_nothing()
        if not done.is_done or done.warned:
            return
        self._term = done.term
        self._deadline = self._deadline_of(asked_ns)
        self.world.note(f"{self.node} has the lease of term {self._term}")
        self._later(RENEW_US, self._renew)
        self._wait_for_reading()

    def _took_nothing(self) -> None:
        self._is_taking = False

    def _deadline_of(self, asked_ns: int) -> Deadline:
        return Deadline.of(asked_ns, LEASE_SECONDS)

    def _renew(self) -> None:
        self._later(RENEW_US, self._renew)
        renewal = Renew(self._term, LEASE_US)
        self._ask(renewal, partial(self._renewed, self.machine.boot_ns()), _nothing)

    def _renewed(self, asked_ns: int, answer: Answer) -> None:
        done: Done = answer.message
        if not done.is_done:
            self.step_down("another manager leads")
        elif not done.warned:
            self._deadline = self._deadline_of(asked_ns)

    def _wait_for_reading(self) -> None:
        """What is read now may have been asked for before it had the lease."""
        if self._is_reading:
            self._later(10_000, self._wait_for_reading)
        else:
            self._read_rest()

    def _read_rest(self) -> None:
        before = self.position

        def then() -> None:
            if not self.leads():
                self.step_down("the lease was over before it led")
            elif self.position == before and self._has_answered:
                self._lead()
            else:
                self._read_rest()

        self._has_answered = False

        def found(answer: Answer) -> None:
            self._has_answered = True
            if self._apply(answer.message):
                then()

        self._ask(ReadRows(self.position), found, lambda: self._later(AGAIN_US, then))

    def _lead(self) -> None:
        assert self.state is not None
        assert self.position is not None
        self.leader = Leader(self, self.state, self.position, self._term)
        self.world.note(f"{self.node} leads from {self.position.lsn} in term {self._term}")
        self.leader.begin()

    # ------------------------------------------------------------------------------------------

    def _ask(
        self, statement: Any, on_answer: Callable[[Answer], None], on_failure: Callable[[], None]
    ) -> None:
        def answered(answer: Answer) -> None:
            if answer.is_ok:
                self.run(partial(on_answer, answer))
            else:
                self.run(on_failure)

        self.machine.ask(statement, ASK_US, answered)

    def _later(self, delay_us: int, action: Callable[[], None]) -> None:
        self.clockwork.after(delay_us, partial(self._do, action))

    def run(self, action: Callable[[], None]) -> None:
        """It does that now, or when it goes on."""
        self.clockwork.run(partial(self._do, action))

    def _do(self, action: Callable[[], None]) -> None:
        if self.is_alive:
            with self.machine.clocks.of(self.machine):
                action()


def _nothing() -> None:
    pass
