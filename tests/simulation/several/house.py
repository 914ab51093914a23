"""Snapshots of a manager's copy of the journal, and the removal of old records there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import wal
from tests.simulation.manager import LIMITS
from tests.simulation.several.mirror import DIRECTORY
from tests.simulation.world import check
from tests.wal.fake_fs import SimulatedCrash
from titan.errors import TitanError
from titan.manager.retention import Retention
from titan.snapshots import take_snapshot

if TYPE_CHECKING:
    from tests.simulation.several.machine import ReplicaMachine


def keep_house(machine: ReplicaMachine, log: wal.Log, now_us: int) -> None:
    """The snapshotter, another process, and what is removed when it is done."""
    world, disk = machine.world, machine.disk
    try:
        if take_snapshot(DIRECTORY, _unusable, left_free_bytes=0, file_system=disk) is not None:
            world.count("snapshot taken")
        plan = Retention(DIRECTORY, LIMITS, file_system=disk).tidy(
            now_us=now_us, end_lsn=log.durable_lsn, last_segment_bytes=log.last_segment_bytes
        )
    except SimulatedCrash:
        machine.die_in_this_call()
    except (TitanError, wal.WalError, OSError) as error:
        world.note(f"no snapshot: {error}")
        world.count("snapshot failed")
    else:
        if plan.records_before_lsn:
            world.count("old records removed")


def _unusable(error: TitanError) -> None:
    check(False, f"a snapshot under its name can be used: {error}")
