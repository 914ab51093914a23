"""The machine of one of several managers, and which process runs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import wal
from tests.simulation.manager_machine import UP_US, ManagerMachine
from tests.simulation.network import Network, Reply
from tests.simulation.several.mirror import DIRECTORY
from tests.simulation.several.replica import Replica
from tests.simulation.several.server import DRIFT_MAX, NODE, Server
from tests.simulation.world import World
from tests.wal.fake_fs import SimulatedCrash

if TYPE_CHECKING:
    from tests.simulation.several.witness import SharedWitness

T = TypeVar("T")


class Clocks:
    """In place of the module `time`: the clocks of whichever machine is at work."""

    def __init__(self) -> None:
        self._at_work: ReplicaMachine | None = None

    @contextmanager
    def of(self, machine: ReplicaMachine) -> Iterator[None]:
        """That machine is at work."""
        before, self._at_work = self._at_work, machine
        try:
            yield
        finally:
            self._at_work = before

    def time_ns(self) -> int:
        """The wall clock."""
        assert self._at_work is not None
        return self._at_work.time_ns()

    def monotonic_ns(self) -> int:
        """The monotonic clock."""
        assert self._at_work is not None
        return self._at_work.monotonic_ns()


class ReplicaMachine(ManagerMachine):
    """One manager's."""

    def __init__(
        self, node: str, world: World, network: Network, preempt: str, *, clocks: Clocks,
        journal: Network, server: Server, witness: SharedWitness,
    ) -> None:  # fmt: skip
        super().__init__(node, world, network, preempt)
        self.clocks = clocks
        self.server = server
        self.witness = witness
        self.process: Replica | None = None
        self._journal = journal
        self._drift = world.random.randint(-DRIFT_MAX, DRIFT_MAX)

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.process is not None

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME, which goes on while the machine is suspended."""
        elapsed_us = self.world.elapsed_us
        return (elapsed_us + elapsed_us * self._drift // 1_000_000 + UP_US) * 1000

    def ask(self, statement: Any, deadline_us: int, done: Reply) -> None:
        """The server of the journal."""
        name = type(statement).__name__
        self._journal.call(self.node, NODE, name, statement, deadline_us, done)

    def start(self) -> None:
        """A process starts, if there is none."""
        if self.process is None:
            with self.clocks.of(self):
                self.process = Replica(self)

    def start_again(self) -> None:
        """The process ends, and another one follows at once."""
        self.kill(self.world.random.randint(20_000, 300_000))

    def in_calls(self, action: Callable[[], T]) -> T | None:
        """What comes of calls of the file system; None: the process is gone."""
        try:
            return action()
        except SimulatedCrash:
            self.die_in_this_call()
        except (wal.WalError, OSError) as error:
            self.world.note(f"{self.node} does not start: {error!r}")
            self.kill()
        return None

    def stall(self, for_us: int) -> None:
        """Its process does nothing for so long."""
        if self.process is not None:
            self.process.stall(for_us)

    def stands(self, longer_us: int) -> None:
        """It does nothing for so much longer."""
        if self.process is not None and self.process.leader is not None:
            self.process.leader.view.stands(longer_us)

    def lose_disk(self) -> None:
        """Its copy of the journal is gone."""
        for path in sorted(self.disk.files):
            if path.startswith(f"{DIRECTORY}/"):
                self.disk.unlink(path)

    def set_copy_aside(self) -> None:
        """Its administrator begins the copy anew, which is not in the journal any more."""
        self.kill(1_000_000)
        self.lose_disk()

    def end_process(self) -> None:
        """The process is gone."""
        process, self.process = self.process, None
        if process is not None:
            process.die()
            self.network.died(process)
            self.network.servers.pop(self.node, None)
            self.server.listeners.pop(self.node, None)
