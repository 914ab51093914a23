"""Backups of a manager's data directory, and data directories made of backups.

A backup holds the log up to a durable record and the snapshots that a start from it needs.
It holds no access token, no readers' slots and no output of tasks. It is taken from a live
directory as well, and again into the same place, where it copies what is new and removes
snapshots that newer ones stand for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import wal
from titan import __version__, paths
from titan.errors import TitanError
from titan.manager.directory import write_description
from titan.waltools.examine import Examination, Progress, examine
from titan.waltools.looks import look_again
from titan.waltools.places import DESCRIPTION, LOCK, MANIFEST, Places
from titan.waltools.start import StartOf, append_start
from wal import Position
from wal.backup import CopiedFile, LogCopy, back_up_log, back_up_snapshot
from wal.filesystem import OS_FILE_SYSTEM

FORMAT: Final = 1
_OWN_NAMES: Final = frozenset({MANIFEST, "wal", "snapshots", LOCK})
_NEWEST_KEPT: Final = 2


class BackupFailed(TitanError):
    """It cannot be done; the text says why and what to do."""


class _Overtaken(Exception):
    """A manager has newer snapshots than the log that was copied, and no older ones any more."""


class BackedUp(NamedTuple):
    """What the backup holds now, and what of that is new."""

    first_lsn: int
    last_lsn: int
    files: list[CopiedFile]
    manifest: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.manifest,
            "files_copied": sum(each.is_new for each in self.files),
            "bytes_copied": sum(each.size_bytes for each in self.files if each.is_new),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a directory holds that was made of a backup."""

    directory: Path
    first_lsn: int
    last_lsn: int
    """Of the backup; one more record follows it."""
    jobs: int
    live_jobs: int
    epoch: int
    time: float
    """When the backup was taken, in Unix seconds."""


def back_up(places: Places, target: Path, *, now: float) -> BackedUp:
    """Copies what is durable to `target`, as far as it is not there.

    Raises BackupFailed, wal.WalError, OSError. O(bytes that are new).
    """
    manifest = _check_target(places, target)
    target.mkdir(parents=True, exist_ok=True)
    try:
        lock = wal.Lock(target / LOCK)
    except wal.Locked as error:
        raise BackupFailed(f"{target}: process {error.pid} backs up there") from error
    try:
        previous = _position_of(manifest)
        log, snapshots = look_again(
            lambda: _copy(places, Places.of(target), previous),
            overtaken=(FileNotFoundError, wal.RecordsGone, _Overtaken),
        )
        files = [_below("wal", each) for each in log.files]
        files += [_below("snapshots", each) for each in snapshots]
        description = paths.read_json(places.root / DESCRIPTION) or {}
        manifest = {
            "format": FORMAT,
            "cluster_id": description.get("cluster_id"),
            "log_id": log.position.log_id.hex(),
            "first_lsn": log.first_lsn,
            "last_lsn": log.position.lsn,
            "chain": log.position.chain,
            "time": now,
            "version": __version__,
            "files": [{"file": each.name, "bytes": each.size_bytes} for each in files],
        }
        # Behind all that it names, and before anything goes that the last one named.
        paths.write_json(target / MANIFEST, manifest)
        _thin_snapshots(Places.of(target), {each.name for each in snapshots})
    except ValueError as error:
        raise BackupFailed(f"{places.root / DESCRIPTION}: {error}") from error
    finally:
        lock.release()
    return BackedUp(log.first_lsn, log.position.lsn, files, manifest)


def restore(
    source: Path,
    directory: Path,
    *,
    start: StartOf,
    segment_bytes: int | None = None,
    progress: Progress = lambda _: None,
) -> Restored:
    """Makes a manager's data directory of a backup; it must be absent or empty.

    Raises BackupFailed, wal.WalError, OSError. O(bytes).
    """
    manifest = _read_manifest(source)
    if manifest is None:
        raise BackupFailed(f"{source} holds no backup: it has no {MANIFEST}")
    if directory.exists() and any(directory.iterdir()):
        raise BackupFailed(f"{directory} is not empty: name a new directory")
    _check_complete(source, manifest)
    # Under another name until all of it is there and sound: a part is no data directory.
    making = directory.absolute().with_name(f".{directory.absolute().name}.restoring")
    if making.exists():
        raise BackupFailed(f"{making} is left of a restore that was stopped: remove it first")
    making.mkdir(parents=True)
    found = _copy_all(Places.of(source), Places.of(making), _position_of(manifest), progress)
    if not found.is_sound or found.state is None or found.log.next_lsn <= manifest["last_lsn"]:
        raise BackupFailed(
            f"the backup in {source} is not sound: `titan wal verify {source}` tells what is "
            f"wrong; what was copied of it is in {making}"
        )
    state = found.state
    write_description(making, state.cluster_id)
    newest = max((each.position for each in found.snapshots if each.position), default=None)
    append_start(found, start, lock=None, after=newest, segment_bytes=segment_bytes)
    os.replace(making, directory)
    OS_FILE_SYSTEM.fsync_directory(str(directory.absolute().parent))
    return Restored(
        directory=directory,
        first_lsn=found.log.first_lsn,
        last_lsn=state.lsn,
        jobs=len(state.jobs),
        live_jobs=len(state.live_jobs),
        epoch=start.epoch,
        time=float(manifest["time"]),
    )


def _check_target(places: Places, target: Path) -> dict[str, Any] | None:
    """The manifest of the last backup there. Raises BackupFailed if it is not the place for one."""
    root, resolved = places.root.resolve(), target.resolve()
    if resolved == root or root in resolved.parents or resolved in root.parents:
        raise BackupFailed(f"{target} and {places.root} lie in each other: name another place")
    manifest = _read_manifest(target)
    if manifest is None and target.exists():
        strange = sorted({entry.name for entry in target.iterdir()} - _OWN_NAMES)
        if strange:
            raise BackupFailed(f"{target} is no backup and not empty: it has {strange[0]}")
    return manifest


def _read_manifest(directory: Path) -> dict[str, Any] | None:
    path = directory / MANIFEST
    try:
        manifest = paths.read_json(path)
    except NotADirectoryError as error:
        raise BackupFailed(f"{directory} is no directory") from error
    except ValueError as error:
        raise BackupFailed(f"{path}: {error}") from error
    if manifest is None:
        return None
    if manifest.get("format") != FORMAT:
        raise BackupFailed(
            f"{path} has format {manifest.get('format')}, this version of Titan knows {FORMAT}"
        )
    if not {"log_id", "last_lsn", "chain", "time", "files"} <= manifest.keys():
        raise BackupFailed(f"{path} is not whole")
    return manifest


def _position_of(manifest: dict[str, Any] | None) -> Position | None:
    if manifest is None:
        return None
    return Position(bytes.fromhex(manifest["log_id"]), manifest["last_lsn"], manifest["chain"])


def _copy(
    places: Places, target: Places, previous: Position | None
) -> tuple[LogCopy, list[CopiedFile]]:
    log = back_up_log(places.log, target.log, previous=previous)
    return log, _copy_snapshots(places, target, log)


def _copy_snapshots(places: Places, target: Places, log: LogCopy) -> list[CopiedFile]:
    """Copies the newest snapshot, and the one that the first record needs; says what is to stay.

    They can all be made again from the log and the oldest one. Two stay for a quick start.
    """
    lsns = wal.find_snapshots(places.snapshots)
    part = range(log.first_lsn - 1, log.position.lsn + 1)
    found = [lsn for lsn in lsns if lsn in part]
    newest = next((lsn for lsn in reversed(found) if _is_usable(places, lsn, target.log)), None)
    copied = {} if newest is None else {newest: _copy_snapshot(places, target, newest)}
    there = [lsn for lsn in wal.find_snapshots(target.snapshots) if lsn in part]
    kept = {*there[-_NEWEST_KEPT:]}
    if log.first_lsn > 1:
        for lsn in sorted({*there, *found}):
            if lsn in there and _is_usable(target, lsn, target.log):
                break
            if lsn in found and _is_usable(places, lsn, target.log):
                copied[lsn] = _copy_snapshot(places, target, lsn)
                break
        else:
            if lsns and lsns[-1] not in part:
                raise _Overtaken
            raise BackupFailed(
                f"{places.root}: the log begins with record {log.first_lsn}, and no usable "
                "snapshot leads there: nothing could be started from a backup of it"
            )
        kept.add(lsn)
    return [copied.get(lsn) or _as_it_is(target, lsn) for lsn in sorted(kept)]


def _is_usable(places: Places, lsn: int, log: Path) -> bool:
    """Whether a snapshot is whole and can be taken up within this log. O(bytes)."""
    try:
        position = wal.check_snapshot(places.snapshots, lsn)
        wal.Reader(log, position=position).close()
    except (wal.Damaged, wal.NotALog, wal.NewerVersion, wal.PositionMismatch, wal.RecordsGone):
        return False
    return True


def _copy_snapshot(places: Places, target: Places, lsn: int) -> CopiedFile:
    return back_up_snapshot(places.snapshots, target.snapshots, lsn)


def _as_it_is(target: Places, lsn: int) -> CopiedFile:
    path = target.snapshots / wal.snapshot_name(lsn)
    return CopiedFile(path.name, path.stat().st_size, is_new=False)


def _thin_snapshots(target: Places, kept: set[str]) -> None:
    for lsn in wal.find_snapshots(target.snapshots):
        if wal.snapshot_name(lsn) not in kept:
            wal.remove_snapshot(target.snapshots, lsn)


def _check_complete(source: Path, manifest: dict[str, Any]) -> None:
    for each in manifest["files"]:
        path = source / str(each["file"])
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise BackupFailed(f"{path} is missing from the backup") from error
        # It may have grown, by a backup that was stopped before its end.
        if size < each["bytes"]:
            raise BackupFailed(f"{path} has {size} bytes, the backup wrote {each['bytes']}")


def _copy_all(
    source: Places, target: Places, position: Position | None, progress: Progress
) -> Examination:
    """Copies a backup, each file checked on the way, and looks at all of the copy."""
    back_up_log(source.log, target.log, previous=position)
    for lsn in wal.find_snapshots(source.snapshots):
        # What has rotted can be done without if another one leads to the log; that is looked at.
        if _is_usable(source, lsn, target.log):
            _copy_snapshot(source, target, lsn)
    return examine(target, progress=progress)


def _below(folder: str, file: CopiedFile) -> CopiedFile:
    return file._replace(name=f"{folder}/{file.name}")
