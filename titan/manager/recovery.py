"""From a data directory to a state and an open log: the newest usable snapshot and the tail.

A snapshot that cannot be used falls back to the one before, and at last to the whole log
if it is all there. Nothing is written before all of it is judged, but for the lock.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import wal
from titan.errors import TitanError
from titan.snapshots import SnapshotUnusable, load_newest
from titan.state.cluster import ClusterState, IllegalEvent
from titan.state.replay import UnknownRecord, replay
from wal import FileSystem
from wal.filesystem import OS_FILE_SYSTEM

_log = logging.getLogger("titan.manager")


class StartRefused(TitanError):
    """The manager cannot start; the text says why and what to do."""


class Recovered(NamedTuple):
    """What a start is made from."""

    state: ClusterState
    log: wal.Log
    records: int
    """Replayed behind the snapshot."""
    snapshot_lsn: int
    """0: there was none."""
    snapshot_bytes: int
    tail_bytes: int
    """Of the replayed records."""
    unusable: list[int]
    """The snapshots that could not be taken up, by LSN."""


def recover(
    directory: Path,
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
    **log_options: Any,
) -> Recovered:
    """Takes the directory's lock and the log up; `log_options` are those of `wal.Log.open`.

    Raises StartRefused, wal.WalError, OSError.
    """
    lock = take_lock(directory, file_system=file_system)
    unusable: list[int] = []

    def warn(error: SnapshotUnusable) -> None:
        _log.warning("%s", error)
        unusable.append(error.lsn)

    # What is made here stays: looking for garbage among it would only take time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        try:
            loaded = load_newest(directory, warn, file_system=file_system)
            slots = wal.read_slots(
                directory / "readers",
                on_warning=lambda text: _log.warning("%s", text),
                file_system=file_system,
            )
        except BaseException:
            lock.release()
            raise
        log = _open_log(
            directory,
            lock=lock,
            after=loaded.position if loaded else None,
            known=[slot.position for slot in slots],
            file_system=file_system,
            **log_options,
        )
        state = loaded.state if loaded else ClusterState()
        counter = _Counter()
        try:
            records = replay(counter.count(log.records(state.lsn)), state)
        except (UnknownRecord, IllegalEvent) as error:
            log.abandon()
            raise StartRefused(
                f"the log in {directory} cannot be replayed and was not touched: {error}; "
                f"`titan wal verify {directory}` looks at all of it"
            ) from error
        except BaseException:
            log.abandon()
            raise
    finally:
        if was_enabled:
            gc.enable()
    return Recovered(
        state,
        log,
        records,
        snapshot_lsn=loaded.position.lsn if loaded else 0,
        snapshot_bytes=loaded.size_bytes if loaded else 0,
        tail_bytes=counter.payload_bytes,
        unusable=unusable,
    )


class _Counter:
    """Counts what goes through."""

    def __init__(self) -> None:
        self.payload_bytes = 0

    def count(self, records: Iterator[wal.Record]) -> Iterator[wal.Record]:
        for record in records:
            self.payload_bytes += len(record[1])
            yield record


def take_lock(directory: Path, *, file_system: FileSystem = OS_FILE_SYSTEM) -> wal.Lock:
    """Keeps other managers off that data directory. Raises StartRefused, OSError."""
    try:
        return wal.Lock(directory / "lock", file_system=file_system)
    except wal.Locked as error:
        holder = f"process {error.pid}" if error.pid else "another process"
        raise StartRefused(f"{directory} is in use by {holder}: a manager runs on it") from error


def _open_log(directory: Path, **how: Any) -> wal.Log:
    try:
        return wal.Log.open(directory / "wal", **how)
    except (wal.Damaged, wal.NotALog, wal.PositionMismatch) as error:
        raise StartRefused(
            f"the log is not usable and was not touched: {error}; `titan wal verify {directory}` "
            f"looks at all of it, `titan wal repair {directory}` shows what can be saved"
        ) from error
