"""Snapshots of the state in a manager's data directory: taking one, and finding the one to use.

A snapshot is the state at a position of the log. It is made from the one before and the
log, never from a manager's memory, so it can be made beside a manager that goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import wal
from titan import __version__
from titan.errors import TitanError
from titan.state.cluster import ClusterState
from titan.state.replay import replay
from titan.state.snapshot import (
    FORMAT,
    NewerSnapshot,
    SnapshotError,
    SnapshotHead,
    decode_state,
    encode_state,
    read_head,
)
from wal import FileSystem, find_snapshots, open_snapshot, write_snapshot
from wal.filesystem import OS_FILE_SYSTEM

# What has to stay free beside a new snapshot: the log takes up to two segments at a time, and
# goes on while the snapshot is written.
LEFT_FREE_SEGMENTS: Final = 4
LEFT_FREE_BYTES: Final = LEFT_FREE_SEGMENTS * wal.SEGMENT_BYTES

READ_RECORDS: Final = 4_096


class SnapshotUnusable(TitanError):
    """A snapshot cannot be taken up; the text says which and why."""

    def __init__(self, lsn: int, why: Exception) -> None:
        super().__init__(f"the snapshot at LSN {lsn} cannot be used: {why}")
        self.lsn = lsn


class NoSpace(TitanError):
    """A snapshot would take space that the log may need."""


class Loaded(NamedTuple):
    """A state from a snapshot and the place in the log where it goes on."""

    state: ClusterState
    position: wal.Position
    size_bytes: int


class Taken(NamedTuple):
    """A snapshot that was written, and how many records it took up since the one before."""

    lsn: int
    size_bytes: int
    records: int


def snapshot_directory(data_directory: Path) -> Path:
    """Where the snapshots lie."""
    return data_directory / "snapshots"


def load_snapshot(
    data_directory: Path, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> Loaded:
    """The state of one snapshot. Raises SnapshotUnusable."""
    with _opened(data_directory, lsn, file_system) as snapshot:
        state = decode_state(snapshot.blocks())
        if state.lsn != lsn:
            raise SnapshotError(f"its state is that of LSN {state.lsn}")
        return Loaded(state, snapshot.position, snapshot.size_bytes)


def load_head(
    data_directory: Path, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> SnapshotHead:
    """What a snapshot tells of itself; the rest of it is not read. Raises SnapshotUnusable."""
    with _opened(data_directory, lsn, file_system) as snapshot:
        return read_head(next(iter(snapshot.blocks()), b""))


@contextmanager
def _opened(data_directory: Path, lsn: int, file_system: FileSystem) -> Iterator[wal.Snapshot]:
    """Whatever goes wrong with it comes out as SnapshotUnusable, with its cause."""
    directory = snapshot_directory(data_directory)
    try:
        with open_snapshot(directory, lsn, file_system=file_system) as snapshot:
            yield snapshot
    except NewerSnapshot as error:
        path = str(directory / wal.snapshot_name(lsn))
        newer = wal.NewerVersion(path, error.format, FORMAT)
        raise SnapshotUnusable(lsn, newer) from newer
    except (SnapshotError, wal.WalError, OSError) as error:
        raise SnapshotUnusable(lsn, error) from error


def load_newest(
    data_directory: Path,
    on_unusable: Callable[[SnapshotUnusable], object],
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> Loaded | None:
    """The newest snapshot that can be used; `on_unusable` hears of those that cannot."""
    lsns = find_snapshots(snapshot_directory(data_directory), file_system=file_system)
    for lsn in reversed(lsns):
        try:
            return load_snapshot(data_directory, lsn, file_system=file_system)
        except SnapshotUnusable as error:
            on_unusable(error)
    return None


def take_snapshot(
    data_directory: Path,
    on_unusable: Callable[[SnapshotUnusable], object],
    *,
    left_free_bytes: int = LEFT_FREE_BYTES,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> Taken | None:
    """Writes the state at the end of what is durable; None when a snapshot has it already.

    Reads a live log. Raises NoSpace, UnknownRecord, IllegalEvent, wal.WalError, OSError.
    """
    loaded = load_newest(data_directory, on_unusable, file_system=file_system)
    state = loaded.state if loaded else ClusterState()
    log_directory = data_directory / "wal"
    position = loaded.position if loaded else None
    with wal.Reader(log_directory, position=position, file_system=file_system) as reader:
        records = replay(_records(reader, state.lsn), state)
        if not records:
            return None
        last_bytes = loaded.size_bytes if loaded else 0
        _check_space(data_directory, last_bytes + last_bytes // 4 + left_free_bytes, file_system)
        size_bytes = write_snapshot(
            snapshot_directory(data_directory),
            reader.position,
            encode_state(state, __version__),
            file_system=file_system,
        )
    return Taken(state.lsn, size_bytes, records)


def _records(reader: wal.Reader, lsn: int) -> Iterator[wal.Record]:
    """What follows that record and is durable by now; a log that is written fast has no end."""
    end_lsn = reader.find_durable() or sys.maxsize
    while lsn < end_lsn and (records := reader.read(min(READ_RECORDS, end_lsn - lsn))):
        lsn = records[-1].lsn
        yield from records


def _check_space(data_directory: Path, needed: int, file_system: FileSystem) -> None:
    free = file_system.free_bytes(str(data_directory))
    if free < needed:
        raise NoSpace(
            f"{data_directory} has {free} bytes free; a snapshot waits until there are {needed}"
        )
