"""A manager's copy of the journal: behind it, and nobody waits for it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wal
from tests.simulation.several.rows import Row
from tests.wal.fake_fs import SimulatedCrash

if TYPE_CHECKING:
    from tests.simulation.several.machine import ReplicaMachine

DIRECTORY: Final = Path("/data")
# Small, so that a run goes through several segments.
SEGMENT_BYTES: Final = 1 << 14


class MirrorQueue:
    """What is still to be written there, and the thread that does."""

    def __init__(self, machine: ReplicaMachine, log: wal.Log) -> None:
        self._machine = machine
        self.log = log
        self._rows: deque[Row] = deque()
        self._is_planned = False
        self._is_refused = False
        self.is_alive = True

    @property
    def is_empty(self) -> bool:
        """Whether all is written."""
        return not self._rows

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
        row = self._rows[0]
        try:
            if self._is_refused:
                is_done = self.log.flush()
            else:
                count = row.last_lsn - row.first_lsn + 1
                frame = wal.PackedFrame(row.first_lsn, count, row.body, row.chain)
                is_done = self.log.write_frame(frame)
        except SimulatedCrash:
            self._machine.die_in_this_call()
            return
        except wal.LogFailed:
            self._machine.world.count("sync failed")
            self._machine.kill()
            return
        self._is_refused = not is_done
        if not is_done:
            self._machine.world.count("disk full")
            self._plan(100_000)
            return
        self._rows.popleft()
        assert self.log.position.chain == row.chain
        if self._rows:
            self._plan(self._machine.flush_us())
