"""Snapshots between a data directory and the database: their files, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import wal
from titan.journal.snapshots import SnapshotTable
from wal.filesystem import OS_FILE_SYSTEM, read_chunks, replace_file

_TEMPORARY_NAME = "snapshot.fetched.tmp"


def fetch_snapshot(
    table: SnapshotTable,
    directory: Path,
    position: wal.Position,
    *,
    is_damaged_kept: bool = False,
) -> None:
    """Brings a snapshot into a directory, durably, unless it is there, whole.

    `is_damaged_kept`: what cannot be used stays there, to be looked at. Raises KeyError
    (there is none any more), wal.Damaged, wal.NotALog, wal.NewerVersion (then it is not there),
    JournalUnavailable, JournalRefused, OSError. O(bytes).
    """
    with suppress(wal.WalError, FileNotFoundError):
        if wal.check_snapshot(directory, position.lsn) == position:
            return
    name = wal.snapshot_name(position.lsn)
    replace_file(OS_FILE_SYSTEM, str(directory), name, _TEMPORARY_NAME, table.get(position.lsn))
    try:
        found = wal.check_snapshot(directory, position.lsn)
        if found != position:
            expected = f"chain CRC {position.chain:08x}"
            raise wal.Damaged(str(directory / name), 0, expected, f"{found.chain:08x}")
    except wal.WalError:
        if not is_damaged_kept:
            (directory / name).unlink()
        raise


def snapshot_bytes(directory: Path, lsn: int) -> Iterator[bytes]:
    """The bytes of a snapshot's file, as they are. Raises OSError."""
    fd = OS_FILE_SYSTEM.open(str(directory / wal.snapshot_name(lsn)))
    try:
        yield from read_chunks(OS_FILE_SYSTEM, fd, 0, OS_FILE_SYSTEM.size(fd))
    finally:
        OS_FILE_SYSTEM.close(fd)
