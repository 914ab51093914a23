"""What must hold of several managers, seen from outside, beside what must hold of one.

There is one log: that of the journal. Whoever leads last appends to what the witness replays; when
another takes over, what it found is that log, and whatever else was appended never happened. And:

* a row that the synchronous standby has is never lost, nor replaced (1);
* at each record the state of whoever follows is the one that was decided on (5);
* when a term begins nobody counts on the lease of one before it, and no row of one comes after
  that; so whatever leaves a manager does so while no other has the lease (7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.simulation.checks import Witness
from tests.simulation.several.server import Server
from tests.simulation.several.statements import Lease
from tests.simulation.world import World, check
from titan import events as ev
from titan.journal.rows import Row
from titan.manager.kernel import Kernel
from titan.state.cluster import ClusterState
from titan.state.digest import digest, digest_of


class Look(NamedTuple):
    """What a record named, and how that looked after it."""

    payload: bytes
    jobs: Sequence[int]
    workers: Sequence[int]
    digest: str


class SharedWitness(Witness):
    """Of the log of the journal."""

    def __init__(self, world: World, plan: object, timeout_us: int, server: Server) -> None:
        super().__init__(world, plan, timeout_us)  # type: ignore[arg-type]
        self.server = server
        self.leading: LeaderWitness | None = None
        self._looks: dict[int, Look] = {}
        # By LSN and payload, of all that was ever appended, the kernel's time.
        self.decided_us: dict[tuple[int, bytes], int] = {}
        self._is_catching_up = False
        # Which holders count on a lease, by whatever clock they have.
        self.find_confident: Callable[[], list[str]] = list
        server.on_received = self._received
        server.on_seen = self._seen
        server.on_term = self._term_began

    def took_over(self, leading: LeaderWitness, state: ClusterState, log: list[bytes]) -> None:
        """A manager leads from now on, and found that log."""
        self.leading = leading
        check(state.lsn == len(log), f"it leads at {state.lsn} of {len(log)} records")
        same = 0
        for ours, theirs in zip(self._payloads, log, strict=False):
            if ours != theirs:
                break
            same += 1
        check(same >= self._durable_lsn, f"{same} of {self._durable_lsn} records are there (1)")
        if same < len(self._payloads):
            self._world.count("records lost at a takeover")
            self._rewind(same)
        for payload in log[same:]:
            self._catch_up(payload)
        self.recovered(state, 0)

    def _catch_up(self, payload: bytes) -> None:
        """A record that came late, after another manager had begun without it."""
        self._world.count("record of a leader before came late")
        lsn = len(self._payloads) + 1
        self._payloads.append(payload)
        time_us, events = ev.decode_record(payload)
        self._state.begin_record(lsn, time_us)
        self._is_catching_up = True
        for event in events:
            self.promises.examine(lsn, event, self._state, self.decided_us[lsn, payload])
            self._examine(lsn, event)
            self._state.apply(event)
        self._is_catching_up = False

    def _is_silent(self, worker: int) -> bool:
        return self._is_catching_up or super()._is_silent(worker)

    def _compare(
        self, lsn: int, jobs: Sequence[int], workers: Sequence[int], state: ClusterState
    ) -> None:
        super()._compare(lsn, jobs, workers, state)
        seen = digest_of(self._state, jobs, workers)
        self._looks[lsn] = Look(self._payloads[-1], jobs, workers, seen)

    def followed(self, lsn: int, payload: bytes, state: ClusterState) -> None:
        """A standby has applied a record."""
        look = self._looks.get(lsn)
        if look is not None and look.payload == payload:
            is_same = digest_of(state, look.jobs, look.workers) == look.digest
            check(is_same, f"a standby's state at {lsn} differs (5)")
            self._world.count("record followed")

    def caught_up(self, state: ClusterState) -> None:
        """At the end of the run: a manager that follows has it all."""
        check(digest(state) == digest(self._state), "a standby's state differs (5)")

    def _received(self, row: Row) -> None:
        payloads = [record.payload for batch in row.records() for record in batch]
        if self._payloads[row.first_lsn - 1 : row.last_lsn] == payloads:
            self.durable(row.last_lsn)

    def _seen(self, row: Row) -> None:
        term = self.server.lease.term
        check(row.term == term, f"a row of term {row.term} comes in term {term}")

    def _term_began(self, lease: Lease) -> None:
        for holder in self.find_confident():
            # It may have taken it again itself, by a statement that it has given up.
            check(holder == lease.holder, f"{lease} begins, {holder} counts on its own")


class LeaderWitness:
    """The witness as the shell of one leader has it, which is not heard once another leads."""

    def __init__(self, shared: SharedWitness, holder: str, term: int) -> None:
        self._shared = shared
        self._holder = holder
        self._term = term

    @property
    def _leads(self) -> bool:
        return self._shared.leading is self

    def took_over(self, state: ClusterState, log: list[bytes]) -> None:
        """It has read all that is there."""
        self._shared.took_over(self, state, log)

    def leaves(self, what: str) -> None:
        """Something leaves this manager."""
        lease = self._shared.server.lease
        is_its = lease.holder == self._holder
        check(is_its, f"{what} leaves {self._holder} of term {self._term} in {lease} (7)")

    def appended(self, lsn: int, payload: bytes, kernel: Kernel, awake_us: int) -> None:
        """It has appended a record."""
        self._shared.decided_us[lsn, payload] = kernel.now_us
        if self._leads:
            self._shared.appended(lsn, payload, kernel, awake_us)

    def turned(self, kernel: Kernel) -> None:
        """A turn is over."""
        if self._leads:
            self._shared.turned(kernel)

    def looked_at(self, kernel: Kernel) -> None:
        """It ends."""
        if self._leads:
            self._shared.looked_at(kernel)

    def heard(self, worker: int) -> None:
        """It took a message of that worker."""
        if self._leads:
            self._shared.heard(worker)

    def stands(self, longer_us: int) -> None:
        """It stands still for so much longer."""
        if self._leads:
            self._shared.manager_stands(longer_us)
