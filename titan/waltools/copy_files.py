"""A data directory as the place that a log is copied from, or to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import wal
from titan import paths
from titan.errors import TitanError
from titan.journal import mark
from titan.journal.mark import Mark, read_mark, write_mark
from titan.journal.snapshot_files import snapshot_bytes
from titan.manager.directory import write_description
from titan.snapshots import load_newest
from titan.state.cluster import ClusterState
from titan.state.replay import replay
from titan.waltools.copy_ends import CopyRefused
from titan.waltools.places import DESCRIPTION, LOCK, Places
from wal.filesystem import OS_FILE_SYSTEM, replace_file

_TEMPORARY_NAME = "copy.tmp"


class _Files:
    """What source and target have in common: the directory, its lock and its log."""

    def __init__(self, directory: Path) -> None:
        self.name = str(directory)
        self.places = Places.of(directory)
        self.log: wal.Log | None = None

    def open_log(self) -> wal.Log:
        """Opens all of it, as a start does with what it needs. Raises CopyRefused, wal.WalError."""
        first = wal.list_segments(self.places.log)[0].first_lsn
        base = self.find_base() if first > 1 else None
        try:
            # Everything before `base` is gone, so all that is there is needed.
            self.log = wal.Log.open(self.places.log, lock=self.take_lock(), after=base)
        except (wal.Damaged, wal.NotALog) as error:
            raise CopyRefused(
                f"{self.name} is damaged: {error}; `titan wal verify {self.name}` looks at all "
                "of it"
            ) from error
        return self.log

    def take_lock(self) -> wal.Lock:
        """Raises CopyRefused."""
        try:
            return wal.Lock(self.places.root / LOCK)
        except wal.Locked as error:
            holder = f"process {error.pid}" if error.pid else "another process"
            raise CopyRefused(
                f"{self.name} is in use by {holder}: stop the manager that runs on it"
            ) from error

    def find_base(self) -> wal.Position:
        """The position before the first record that is kept. Raises CopyRefused."""
        try:
            with wal.Reader(self.places.log) as reader:
                return reader.position
        except wal.Damaged as error:
            raise CopyRefused(f"{self.name} is damaged: {error}") from error

    def read_slots(self) -> list[wal.Slot]:
        """Those that can be read."""
        return wal.read_slots(self.places.readers, on_warning=lambda _: None)

    def close(self) -> None:
        """Lets the log and the lock go."""
        if self.log is not None:
            self.log.abandon()


class DirectorySource(_Files):
    """See `copy_ends.Source`."""

    def __init__(self, directory: Path) -> None:
        """Takes the lock and opens the log. Raises CopyRefused, wal.WalError, OSError."""
        super().__init__(directory)
        if not self.places.log.is_dir() or not wal.list_segments(self.places.log):
            raise CopyRefused(f"{directory} is no data directory with a log in it")
        found = read_mark(directory)
        if found is not None and found.is_partial:
            raise CopyRefused(
                f"{directory} has a part of the journal in {found.journal}: it is a copy that was "
                "stopped before its end"
            )
        self.base = self.find_base()
        log = self.open_log()
        self.end = log.position

    def frames(self, after: wal.Position) -> Iterator[wal.PackedFrame]:
        """Those behind that place."""
        assert self.log is not None
        return self.log.frames(after.lsn)

    def check_place(self, position: wal.Position) -> None:
        """Raises wal.RecordsGone, wal.PositionMismatch."""
        wal.Reader(self.places.log, position=position).close()
        assert self.log is not None
        if position.lsn in (self.base.lsn, self.end.lsn):
            return
        if next(self.log.frames(position.lsn)).first_lsn != position.lsn + 1:
            found = "a frame that has it in its middle"
            raise wal.PositionMismatch(self.name, f"a frame that ends with {position.lsn}", found)

    def snapshots(self) -> list[int]:
        """The LSNs of all that there are."""
        return wal.find_snapshots(self.places.snapshots)

    def check_snapshot(self, lsn: int) -> wal.Position | None:
        """Its position, if all of it can be read. O(bytes)."""
        try:
            return wal.check_snapshot(self.places.snapshots, lsn)
        except (wal.Damaged, wal.NotALog):
            return None

    def snapshot(self, position: wal.Position) -> Iterator[bytes]:
        """The bytes of the file."""
        return snapshot_bytes(self.places.snapshots, position.lsn)

    def slots(self) -> list[wal.Slot]:
        """Where readers are."""
        return self.read_slots()


class DirectoryTarget(_Files):
    """See `copy_ends.Target`. While it is written to it is marked: no manager starts there."""

    def __init__(self, directory: Path) -> None:
        """Takes up what is there. Raises CopyRefused, wal.WalError, OSError."""
        super().__init__(directory)
        self.end: wal.Position | None = None
        self._is_finished = False
        self._check_usable()
        if self.places.log.is_dir() and wal.list_segments(self.places.log):
            self.end = self.open_log().position

    def begin(self, base: wal.Position, origin: str) -> None:
        """An empty log."""
        self.places.root.mkdir(parents=True, exist_ok=True)
        self._write_mark(base.log_id, origin)
        lock = self.take_lock()
        try:
            wal.begin(self.places.log, base)
        finally:
            lock.release()
        log = self.log = wal.Log.open(
            self.places.log, lock=self.take_lock(), after=base if base.lsn else None
        )
        self.end = log.position

    def resume(self, origin: str) -> None:
        """Marks it."""
        assert self.end is not None
        self._write_mark(self.end.log_id, origin)

    def add(self, frames: Sequence[wal.PackedFrame]) -> None:
        """Each as one frame. Raises CopyRefused."""
        assert self.log is not None
        for frame in frames:
            if not self.log.write_frame(frame):
                raise CopyRefused(
                    f"there is no room in {self.name}: it has records up to {self.log.durable_lsn}"
                    "; make some, and copy again to go on from there"
                )

    def snapshots(self) -> list[int]:
        """Those that can be read to their ends."""
        return [lsn for lsn in wal.find_snapshots(self.places.snapshots) if self._is_whole(lsn)]

    def put_snapshot(self, position: wal.Position, chunks: Iterator[bytes]) -> bool:
        """Writes the file, and reads it once more; False: it is damaged, and is not kept."""
        name = wal.snapshot_name(position.lsn)
        try:
            replace_file(OS_FILE_SYSTEM, str(self.places.snapshots), name, _TEMPORARY_NAME, chunks)
        except wal.Damaged:
            return False
        if self._is_whole(position.lsn):
            return True
        (self.places.snapshots / name).unlink()
        return False

    def slots(self) -> list[wal.Slot]:
        """Where readers are by now."""
        return self.read_slots()

    def put_slot(self, slot: wal.Slot) -> None:
        """Writes it."""
        wal.write_slot(self.places.readers, *slot)

    def finish(self) -> None:
        """Says whose directory it is, and takes the mark away. Raises CopyRefused."""
        log = self.log
        assert log is not None
        loaded = load_newest(self.places.root, lambda _: None)
        state = loaded.state if loaded else ClusterState()
        replay(log.records(state.lsn), state)
        if state.lsn:
            write_description(self.places.root, state.cluster_id)
        log.close()
        (self.places.root / mark.NAME).unlink()
        OS_FILE_SYSTEM.fsync_directory(self.name)

    def _check_usable(self) -> None:
        """Whether it is absent, empty, or has a manager's log. Raises CopyRefused."""
        root = self.places.root
        try:
            names = set(os.listdir(root))
            description = paths.read_json(root / DESCRIPTION)
            marked = read_mark(root)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TitanError) as error:
            raise CopyRefused(f"{root} cannot be used: {error}") from error
        if names - {LOCK, "wal"} and description is None and marked is None:
            raise CopyRefused(
                f"{root} is not empty and is no data directory of Titan: name another place"
            )
        role = "manager" if description is None else description.get("role")
        if role != "manager":
            raise CopyRefused(f"{root} is the data directory of a {role}: name another place")

    def _write_mark(self, log_id: bytes, origin: str) -> None:
        write_mark(self.places.root, Mark(log_id, origin, is_partial=True))

    def _is_whole(self, lsn: int) -> bool:
        try:
            wal.check_snapshot(self.places.snapshots, lsn)
        except (wal.Damaged, wal.NotALog):
            return False
        return True
