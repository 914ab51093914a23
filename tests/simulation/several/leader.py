"""The manager that leads: the shell of the kernel over the shared journal.

One row is under way at a time. What becomes of it decides: it is there, and what waited for it
leaves if the lease still holds; it was refused, or nobody knows, and the manager steps down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import wal
from tests.simulation.network import Answer, Reply
from tests.simulation.several.addresses import not_leader
from tests.simulation.several.house import keep_house
from tests.simulation.several.statements import Append, Done, Full
from tests.simulation.several.witness import LeaderWitness
from tests.simulation.shell import TICK_US, SimShell
from tests.simulation.world import Clockwork
from titan.journal.rows import Row, encode
from titan.state.cluster import ClusterState

if TYPE_CHECKING:
    from tests.simulation.several.replica import Replica

# From an append to the statement that carries it, and how long its answer is waited for.
GATHER_US_MAX: Final = 300
APPEND_US: Final = 5_000_000
ROW_RECORDS_MAX: Final = 50


class Leader(SimShell):
    """One manager, from its takeover to its end."""

    def __init__(
        self, replica: Replica, state: ClusterState, position: wal.Position, term: int
    ) -> None:
        self._replica = replica
        machine = replica.machine
        self._machine = machine
        self.world, self.network, self.node = machine.world, machine.network, machine.node
        self.view = LeaderWitness(machine.witness, replica.holder, term)
        self.witness = self.view  # type: ignore[assignment]
        self.view.took_over(state, machine.server.log())
        super().__init__(state, machine.settings, Clockwork(machine.world, replica.clockwork))
        self.term = term
        self.is_serving = False
        self._room = True
        self._pending: list[bytes] = []
        self._last_lsn = position.lsn
        # Behind which the next row goes.
        self._position = position
        self._is_flushing = False

    def begin(self) -> None:
        """The first record; then it serves."""
        self.write_start()
        self.when_durable(self.lsn, self._serve)

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """A call comes in."""
        if self.is_serving and self.leads():
            self._answer(method, request, reply)
        else:
            reply(not_leader(""))

    def leads(self) -> bool:
        """Whether it counts on its lease."""
        return self._replica.leads()

    def let_out(self, action: Callable[[], None]) -> None:
        """Whatever leaves."""
        if not self.leads():
            self.world.count("held back: the lease is over")
            self._step_down_later("the lease is over")
            return
        self.view.leaves("something")
        action()

    @property
    def room(self) -> bool:
        """Whether the journal has room for more than ends."""
        return self._room

    def awake_us(self) -> int:
        """The monotonic clock."""
        return self._machine.awake_us()

    def append(self, payload: bytes) -> int:
        """It takes a record."""
        self._pending.append(payload)
        self._last_lsn += 1
        return self._last_lsn

    def flush_later(self) -> None:
        """What was appended becomes durable, with what is until then."""
        if not self._is_flushing:
            self._is_flushing = True
            delay_us = self.world.random.randint(10, GATHER_US_MAX)
            self._machine.clockwork.after(delay_us, self._flush)

    def keep_house(self) -> None:
        """The snapshotter of its copy, and what is removed when it is done."""
        keep_house(self._machine, self._replica.mirror.log, self._clock.now_us())

    def tick(self) -> None:
        """Comes all the time; it learns of its lease's end at the latest then."""
        if self.leads():
            super().tick()
        else:
            self._step_down_later("the lease is over")

    def _do(self, action: Callable[[], None]) -> None:
        with self._machine.clocks.of(self._machine):
            super()._do(action)

    def _serve(self) -> None:
        self.is_serving = True
        self.world.count("took over")
        self.later(TICK_US, self.tick)

    def _flush(self) -> None:
        """The thread that writes: it goes on even when the loop does not."""
        if not self.is_alive or not self._pending:
            self._is_flushing = False
            return
        payloads = self._pending[:ROW_RECORDS_MAX]
        position = self._position
        row = encode(position.lsn + 1, payloads, position.chain, self.term)
        self._machine.ask(Append(self.term, position, row), APPEND_US, partial(self._came, row))

    def _came(self, row: Row, answer: Answer) -> None:
        """In that thread."""
        if not self.is_alive:
            return
        if self._is_in_doubt(answer):
            self.world.count("a row is in doubt")
            self._step_down_later("nobody knows whether a row is there")
        elif isinstance(answer.message, Full):
            self._room = False
            self._machine.clockwork.after(100_000, self._flush)
        elif isinstance(answer.message, Done) and not answer.message.is_done:
            self.world.count("deposed")
            self._step_down_later("another manager leads")
        else:
            self._is_there(row)

    def _is_in_doubt(self, answer: Answer) -> bool:
        return not answer.is_ok or (isinstance(answer.message, Done) and answer.message.warned)

    def _step_down_later(self, why: str) -> None:
        """Not before what waits already: a rule must hold by itself."""
        delay_us = self.world.random.randint(0, 100_000)
        self.later(delay_us, partial(self._replica.step_down, why))

    def _is_there(self, row: Row) -> None:
        self._room = True
        del self._pending[: row.record_count]
        self._position = wal.Position(self._position.log_id, row.last_lsn, row.chain)
        self._replica.mirror.add(row)
        self.later(self.world.random.randint(10, 300), partial(self._advance, row.last_lsn))
        self._flush()
