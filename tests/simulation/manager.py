"""The manager of the simulation: its machine, and its process, which keeps its log in a file.

The rules of the real manager that it keeps (`titan/manager/main.py`): the start of a manager is
durable before it serves. The log flushes as its thread would: what was appended meanwhile goes in
the next flush, and the loop learns of the end of one a little later.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import wal
from tests.simulation.checks import Witness
from tests.simulation.manager_machine import ManagerMachine
from tests.simulation.network import Network
from tests.simulation.shell import TICK_US, SimShell
from tests.simulation.world import Clockwork, World, check
from tests.wal.fake_fs import SimulatedCrash
from titan.errors import TitanError
from titan.manager.recovery import recover
from titan.manager.retention import Limits, Retention
from titan.snapshots import take_snapshot

NODE: Final = "manager"
DIRECTORY: Final = Path("/data")
# Small, so that a run goes through several segments.
SEGMENT_BYTES: Final = 1 << 14
LIMITS: Final = Limits(retain_us=2_000_000, spacing_bytes_min=4096)


class SimManager(ManagerMachine):
    """The manager's machine, and the process that runs on it now."""

    def __init__(
        self, world: World, network: Network, witness: Witness, preempt: str = "off"
    ) -> None:
        super().__init__(NODE, world, network, preempt)
        self.witness = witness
        self.process: ManagerProcess | None = None

    def start(self) -> None:
        """A process starts, if there is none."""
        if self.process is not None:
            return
        try:
            self.process = ManagerProcess(self)
            self.process.take_over()
        except SimulatedCrash:
            self.lose_power()
        except (wal.LogFailed, OSError) as error:
            self.world.note(f"manager does not start: {error!r}")
            self.kill()

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.process is not None

    def stall(self, for_us: int) -> None:
        """Its process does nothing for so long."""
        if self.process is not None:
            self.process.stall(for_us)

    def stands(self, longer_us: int) -> None:
        """It does nothing for so much longer."""
        self.witness.manager_stands(longer_us)

    def end_process(self) -> None:
        """The process is gone."""
        process, self.process = self.process, None
        if process is not None:
            process.is_alive = False
            if not process.kernel.events_count:
                self.witness.looked_at(process.kernel)
            self.network.died(process)
            self.network.servers.pop(NODE, None)


class ManagerProcess(SimShell):
    """One manager process, from replay to its death."""

    node = NODE

    def __init__(self, machine: SimManager) -> None:
        self.machine = machine
        self.world, self.network, self.witness = machine.world, machine.network, machine.witness
        machine.disk.make_directory(str(DIRECTORY))
        found = recover(
            DIRECTORY,
            file_system=machine.disk,
            segment_bytes=SEGMENT_BYTES,
            random_bytes=self.world.random.randbytes,
            on_warning=self._warn,
        )
        check(not found.unusable, "a snapshot under its name can be used")
        if found.snapshot_lsn:
            self.world.count("started from a snapshot")
        self.log, state = found.log, found.state
        self.witness.recovered(state, found.records)
        self.retention = Retention(DIRECTORY, LIMITS, file_system=machine.disk)
        super().__init__(state, machine.settings, Clockwork(machine.world, machine.clockwork))
        self._flush_is_planned = False

    def take_over(self) -> None:
        """The first record; then it serves."""
        self.write_start()
        self.when_durable(self.lsn, self._serve)

    @property
    def room(self) -> bool:
        """Whether the log has room for more than ends."""
        return self.log.room

    def awake_us(self) -> int:
        """The monotonic clock."""
        return self.machine.awake_us()

    def stall(self, for_us: int) -> None:
        """It does nothing for so long."""
        self.witness.manager_stands(self.clockwork.hold(for_us))

    def _serve(self) -> None:
        self.network.servers[NODE] = self
        self.later(TICK_US, self.tick)

    def append(self, payload: bytes) -> int:
        """The log takes a record."""
        return self.log.append(payload)

    def flush_later(self) -> None:
        """What was appended becomes durable, with what is until then."""
        if not self._flush_is_planned:
            self._flush_is_planned = True
            self.machine.clockwork.after(self.machine.flush_us(), self._flush)

    def _flush(self) -> None:
        """The log's thread: it turns even when the loop does not."""
        if not self.is_alive:
            return
        self._flush_is_planned = False
        try:
            done = self.log.flush()
        except SimulatedCrash:
            self.machine.die_in_this_call()
            return
        except wal.LogFailed:
            self.world.count("sync failed")
            self.machine.kill()
            return
        self.witness.durable(self.log.durable_lsn)
        self.later(self.world.random.randint(10, 300), partial(self._advance, self.log.durable_lsn))
        if not done or not self.log.room:
            self.world.count("disk full")
            self._flush_is_planned = True
            self.machine.clockwork.after(100_000, self._flush)

    def keep_house(self) -> None:
        """The snapshotter, another process, and what is removed when it is done."""
        disk = self.machine.disk
        try:
            taken = take_snapshot(DIRECTORY, _unusable, left_free_bytes=0, file_system=disk)
            if taken is not None:
                self.world.count("snapshot taken")
            plan = self.retention.tidy(
                now_us=self._clock.now_us(),
                end_lsn=self.log.durable_lsn,
                last_segment_bytes=self.log.last_segment_bytes,
            )
        except SimulatedCrash:
            self.machine.die_in_this_call()
        except (TitanError, wal.WalError, OSError) as error:
            self.world.note(f"no snapshot: {error}")
            self.world.count("snapshot failed")
        else:
            if plan.records_before_lsn:
                self.world.count("old records removed")

    def _warn(self, message: str) -> None:
        self.world.note(f"log: {message}")
        if "torn tail" in message:
            self.world.count("torn tail")


def _unusable(error: TitanError) -> None:
    check(False, f"a snapshot under its name can be used: {error}")
