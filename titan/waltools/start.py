"""The record that ends a repair and a restore: a start, with an epoch of its own.

Jobs remember the epoch of their submit, and workers the epoch of what they hold. Whatever
id is given out behind this record can never be taken for one that went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import wal
from titan import events as ev
from titan.errors import TitanError
from titan.waltools.examine import Examination
from wal import FileSystem, Position
from wal.filesystem import OS_FILE_SYSTEM


class NotStarted(TitanError):
    """The record could not be made durable; the text says why."""


class StartOf(NamedTuple):
    """What the record says: when, the new epoch, and by which version."""

    now_us: int
    epoch: int
    version: str


class Started(NamedTuple):
    """The record that was appended, and what the opening of the log had to say."""

    lsn: int
    warnings: list[str]


def append_start(
    found: Examination,
    start: StartOf,
    *,
    lock: wal.Lock | None,
    after: Position | None,
    finish: Callable[[], None] = lambda: None,
    file_system: FileSystem = OS_FILE_SYSTEM,
    segment_bytes: int | None = None,
) -> Started:
    """Appends it to a log that was found sound, and closes that.

    `lock` is taken over. `finish` is called when the record is durable and the lock still
    held. Raises NotStarted, wal.WalError, OSError.
    """
    assert found.is_sound
    assert found.state is not None
    warnings: list[str] = []
    log = wal.Log.open(
        found.places.log,
        file_system=file_system,
        segment_bytes=segment_bytes or wal.SEGMENT_BYTES,
        on_warning=warnings.append,
        lock=lock,
        lock_path=found.places.root / "lock",
        after=after,
        known=[each.position for each in found.slots if each.position is not None],
    )
    try:
        # Record times never decrease, whatever this machine's clock says.
        time_us = max(start.now_us, found.state.time_us)
        event = ev.ManagerStarted(start.epoch, start.version)
        lsn = log.append(ev.encode_record(time_us, [event]))
        if not log.flush():
            raise NotStarted(f"{found.places.log} has no room for one more record: make some")
        finish()
    except BaseException:
        log.abandon()
        raise
    log.close()
    return Started(lsn, warnings)
