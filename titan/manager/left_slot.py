"""The slot of a history that is not written any more: it keeps the log, and nobody reads on."""

from __future__ import annotations

import logging
from pathlib import Path

import wal
from titan import units
from titan.following import HISTORY_SLOT

_log = logging.getLogger("titan.history")


def warn_of_left_slot(data_directory: Path, reader_lag_max_bytes: int) -> None:
    """For a manager that has no history written. Raises wal.WalError, OSError."""
    readers = data_directory / "readers"
    # One that cannot be read holds nothing, and retention tells of it.
    for slot in wal.read_slots(readers, on_warning=lambda _: None):
        if slot.name == HISTORY_SLOT:
            _log.warning(
                "this manager has no history written, and the slot of an earlier one keeps the log "
                "from record %d on, %s by now and at most %s (--reader-lag-max): remove %s, unless "
                "`titan history run` reads on or a history is to go on from there",
                slot.position.lsn + 1,
                units.format_size(_held_bytes(data_directory / "wal", slot.position.lsn)),
                units.format_size(reader_lag_max_bytes),
                readers / f"{HISTORY_SLOT}.slot",
            )


def _held_bytes(log_directory: Path, lsn: int) -> int:
    """How large the segments are that may have records after that one."""
    segments = wal.list_segments(log_directory)
    over = sum(each.first_lsn <= lsn + 1 for each in segments[1:])
    return sum(each.size_bytes for each in segments[over:])
