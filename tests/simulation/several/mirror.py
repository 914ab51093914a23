"""A manager's copy of the journal: the real one, behind the journal, and nobody waits for it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wal
from tests.wal.fake_fs import SimulatedCrash
from titan.journal.mirror import Mirror
from titan.journal.rows import Row

if TYPE_CHECKING:
    from tests.simulation.several.machine import ReplicaMachine

DIRECTORY: Final = Path("/data")
# Small, so that a run goes through several segments.
SEGMENT_BYTES: Final = 1 << 14
AGAIN_US: Final = 100_000


class MirrorQueue:
    """What is still to be written there, and the thread that does."""

    def __init__(self, machine: ReplicaMachine, log: wal.Log) -> None:
        self._machine = machine
        self.log = log
        self._mirror = Mirror(log)
        self._rows: deque[Row] = deque()
        self._is_planned = False
        self.is_alive = True

    def add(self, row: Row) -> None:
        """The next row."""
        self._rows.append(row)
        self._plan(self._machine.flush_us())

    def _plan(self, delay_us: int) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._machine.clockwork.after(delay_us, self._write)

    def _write(self) -> None:
        self._is_planned = False
        if not self.is_alive:
            return
        world = self._machine.world
        try:
            is_done = self._mirror.add(self._rows[0])
        except SimulatedCrash:
            self._machine.die_in_this_call()
            return
        except wal.LogFailed:
            world.count("sync failed")
            self._machine.kill()
            return
        if is_done:
            self._rows.popleft()
        else:
            world.count("disk full")
        if self._rows:
            self._plan(self._machine.flush_us() if is_done else AGAIN_US)
