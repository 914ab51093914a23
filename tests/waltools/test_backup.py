"""Backups of live, damaged and tidied-up directories, and what is made of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import wal
from tests.waltools.builders import SEGMENT_BYTES, append, history, make_directory
from tests.waltools.corruptions import (
    flip,
    flip_in,
    go_on,
    make_rich_directory,
    segments,
    snapshot,
)
from titan import events as ev
from titan.manager.recovery import recover
from titan.state.cluster import ClusterState
from titan.state.digest import digest
from titan.state.replay import replay
from titan.waltools.backup import BackedUp, BackupFailed, Restored, back_up, restore
from titan.waltools.examine import examine
from titan.waltools.places import Places
from titan.waltools.start import StartOf
from titan.waltools.verify import verify
from wal.backup import CopiedFile, back_up_snapshot

START = StartOf(1_900_000_000_000_000, 815, "9.9")


def backed_up(directory: Path, target: Path) -> BackedUp:
    done = back_up(Places.of(directory), target, now=1.5)
    assert verify(Places.of(target)).is_sound
    return done


def restored(source: Path, directory: Path) -> Restored:
    done = restore(source, directory, start=START, segment_bytes=SEGMENT_BYTES)
    assert verify(Places.of(directory)).is_sound
    return done


def files_below(directory: Path) -> set[str]:
    return {str(each.relative_to(directory)) for each in directory.rglob("*") if each.is_file()}


def test_a_backup_holds_the_log_the_newest_snapshot_and_nothing_secret(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    (directory / "access.json").write_text("{}")
    done = backed_up(directory, target)
    manifest = json.loads((target / "backup.json").read_text())
    assert manifest == done.manifest
    assert (manifest["first_lsn"], manifest["last_lsn"], manifest["time"]) == (1, 150, 1.5)
    assert manifest["cluster_id"] == b"cluster id 0 1 2".hex()
    listed = {each["file"] for each in manifest["files"]}
    assert listed == {f"wal/{each.name}" for each in segments(directory)} | {
        f"snapshots/{110:020}.snapshot"
    }
    assert files_below(target) == listed | {"backup.json", "lock", "wal/durable"}


def test_again_it_takes_what_is_new_and_keeps_what_the_source_removes(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    assert not any(each.is_new for each in backed_up(directory, target).files)
    go_on(directory, (ev.encode_record(2 * 10**15, [ev.ManagerStarted(5, "1")]),))
    snapshot(directory)
    wal.remove_segments_before(directory / "wal", 61)
    (directory / "snapshots" / f"{60:020}.snapshot").unlink()
    done = backed_up(directory, target)
    assert (done.first_lsn, done.last_lsn) == (1, 151)
    new = {each.name for each in done.files if each.is_new}
    assert new == {f"wal/{segments(directory)[-1].name}", f"snapshots/{151:020}.snapshot"}


def test_a_log_without_its_beginning_is_backed_up_with_the_snapshot_that_leads_to_it(
    tmp_path: Path,
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    wal.remove_segments_before(directory / "wal", 61)
    done = backed_up(directory, tmp_path / "backup")
    assert done.first_lsn == 52
    names = [each.name for each in done.files if each.name.startswith("snapshots/")]
    assert names == [f"snapshots/{60:020}.snapshot", f"snapshots/{110:020}.snapshot"]
    assert restored(tmp_path / "backup", tmp_path / "new").first_lsn == 52
    for path in (directory / "snapshots").iterdir():
        flip(path, 200)
    with pytest.raises(BackupFailed, match="no usable snapshot"):
        backed_up(directory, tmp_path / "other")


def snapshots_in(target: Path) -> list[int]:
    return wal.find_snapshots(target / "snapshots")


def start_again(directory: Path, epoch: int) -> None:
    """A record more, and a snapshot of it."""
    newest = wal.check_snapshot(directory / "snapshots", snapshots_in(directory)[-1])
    with wal.Log.open(directory / "wal", after=newest, segment_bytes=SEGMENT_BYTES) as log:
        append(log, (ev.encode_record(2 * 10**15 + epoch, [ev.ManagerStarted(epoch, "1")]),))
        log.abandon()
    snapshot(directory)


@pytest.mark.parametrize("removed_before", [0, 61])
def test_a_backup_keeps_the_newest_two_snapshots_and_the_oldest_that_a_start_needs(
    tmp_path: Path, removed_before: int
) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    wal.remove_segments_before(directory / "wal", removed_before)
    needed = [60] if removed_before else []
    for epoch in range(2, 7):
        start_again(directory, epoch)
        newest = 149 + epoch
        listed = {each.name for each in backed_up(directory, target).files}
        assert snapshots_in(target) == [*needed, *range(max(151, newest - 1), newest + 1)]
        assert listed == files_below(target) - {"backup.json", "lock", "wal/durable"}
        wal.remove_snapshot(directory / "snapshots", newest)
        (directory / "snapshots" / f"{60:020}.snapshot").unlink(missing_ok=True)
    restored(target, tmp_path / "new")


def test_a_backup_that_is_stopped_before_its_end_has_all_that_the_last_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    for epoch in (2, 3):
        start_again(directory, epoch)
        backed_up(directory, target)
    start_again(directory, 4)

    def stop(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patched:
        patched.setattr("titan.waltools.backup.paths.write_json", stop)
        with pytest.raises(OSError, match="no more"):
            back_up(Places.of(directory), target, now=1)
    restored(target, tmp_path / "new")
    backed_up(directory, target)
    assert snapshots_in(target) == [152, 153]


def test_a_damaged_snapshot_is_neither_copied_nor_relied_on(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    wal.remove_segments_before(directory / "wal", 61)
    flip(directory / "snapshots" / f"{110:020}.snapshot", 3000)
    backed_up(directory, target)
    assert snapshots_in(target) == [60]
    # What has rotted in the backup is copied again.
    flip(target / "snapshots" / f"{60:020}.snapshot", 3000)
    assert [each.name for each in backed_up(directory, target).files if each.is_new] == [
        f"snapshots/{60:020}.snapshot"
    ]


def test_no_snapshot_is_decoded_for_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    directory = make_rich_directory(tmp_path / "manager")
    wal.remove_segments_before(directory / "wal", 61)
    with monkeypatch.context() as patched:
        patched.setattr("titan.snapshots.decode_state", decode)
        back_up(Places.of(directory), tmp_path / "backup", now=1)
    assert snapshots_in(tmp_path / "backup") == [60, 110]


@pytest.mark.parametrize("removed_before", [0, 61])
def test_a_backup_starts_over_when_a_manager_tidies_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed_before: int
) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    wal.remove_segments_before(directory / "wal", removed_before)
    tidied: list[int] = []

    def tidy(source: Path, to: Path, lsn: int) -> CopiedFile:
        if not tidied:
            tidied.append(lsn)
            start_again(directory, 2)
            for old in (60, 110):
                (directory / "snapshots" / f"{old:020}.snapshot").unlink()
        return back_up_snapshot(source, to, lsn)

    monkeypatch.setattr("titan.waltools.backup.back_up_snapshot", tidy)
    assert backed_up(directory, target).last_lsn == 151
    assert tidied == [110]
    assert snapshots_in(target) == [151]


def test_a_backup_of_a_directory_in_use_is_a_moment_of_it(tmp_path: Path) -> None:
    directory, target = make_directory(tmp_path / "manager", history()[:50]), tmp_path / "backup"
    log = wal.Log.open(directory / "wal", lock_path=directory / "lock", segment_bytes=SEGMENT_BYTES)
    log.start(lambda _: None, lambda _: None, lambda _: None)
    backups = [backed_up(directory, target).last_lsn]

    def write() -> None:
        for payload in history()[50:]:
            log.wait_durable(log.append(payload))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        backups.append(backed_up(directory, target).last_lsn)
    writer.join()
    backups.append(backed_up(directory, target).last_lsn)
    log.close()
    assert backups == sorted(backups)
    assert backups[-1] == 150


def test_a_damaged_log_leaves_the_backup_as_it_was(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    before = {name: (target / name).read_bytes() for name in files_below(target) - {"lock"}}
    flip_in(directory, 149, 60)
    with pytest.raises(wal.Damaged):
        back_up(Places.of(directory), target, now=2)
    assert {name: (target / name).read_bytes() for name in files_below(target) - {"lock"}} == before


def test_a_place_for_a_backup_holds_nothing_else(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for target, why in (
        (other, "has thesis.tex"),
        (directory, "lie in each other"),
        (directory / "backup", "lie in each other"),
        (tmp_path, "lie in each other"),
    ):
        with pytest.raises(BackupFailed, match=why):
            back_up(Places.of(directory), target, now=1)


def test_a_restored_directory_is_the_state_of_then_and_a_new_epoch(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    done = restored(target, tmp_path / "new" / "manager")
    assert (done.first_lsn, done.last_lsn, done.epoch) == (1, 150, 815)
    expected = ClusterState()
    replay(enumerate(history(), 1), expected)
    assert (done.jobs, done.live_jobs) == (len(expected.jobs), len(expected.live_jobs))
    recovered = recover(tmp_path / "new" / "manager", segment_bytes=SEGMENT_BYTES)
    recovered.log.abandon()
    start = ev.ManagerStarted(815, "9.9")
    replay([(151, ev.encode_record(START.now_us, [start]))], expected)
    assert digest(recovered.state) == digest(expected)
    assert not (tmp_path / "new" / "manager" / "access.json").exists()
    assert files_below(tmp_path / "new") >= {"manager/titan.json"}


def test_a_snapshot_that_has_rotted_in_a_backup_holds_up_neither_backup_nor_restore(
    tmp_path: Path,
) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    for offset in (3000, 20):
        flip(target / "snapshots" / f"{110:020}.snapshot", offset)
        new = tmp_path / f"new-{offset}"
        assert restored(target, new).last_lsn == 150
        assert snapshots_in(new) == []
    start_again(directory, 2)
    back_up(Places.of(directory), target, now=1)
    assert restored(target, tmp_path / "new").last_lsn == 151
    assert snapshots_in(tmp_path / "new") == [151]


def test_a_backup_that_has_lost_durable_is_restored_to_its_end(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    (target / "wal" / "durable").unlink()
    assert restored(target, tmp_path / "new").last_lsn == 150


def test_a_restored_copy_is_a_history_of_its_own(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    restored(target, tmp_path / "new")
    go_on(directory, (ev.encode_record(2 * 10**15, [ev.ManagerStarted(6, "1")]),))
    with wal.Reader(directory / "wal") as reader:
        reader.read(151)
        position = reader.position
    with pytest.raises(wal.PositionMismatch):
        wal.Reader(tmp_path / "new" / "wal", position=position)
    # The copy goes on with the backup; the original then does not.
    assert backed_up(tmp_path / "new", target).last_lsn == 151
    with pytest.raises(wal.WalError, match="another history"):
        back_up(Places.of(directory), target, now=3)


def test_a_directory_that_is_not_empty_is_not_restored_into(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    with pytest.raises(BackupFailed, match="not empty"):
        restore(target, directory, start=START)
    empty = tmp_path / "empty"
    empty.mkdir()
    restored(target, empty)


def test_what_is_no_whole_backup_is_not_restored(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    with pytest.raises(BackupFailed, match="holds no backup"):
        restore(directory, tmp_path / "new", start=START)
    backed_up(directory, target)
    segment = segments(target)[3]
    content = segment.read_bytes()
    for change, error in (
        (content[:-1], "bytes, the backup wrote"),
        (content[:500] + b"?" + content[501:], "damaged"),
    ):
        segment.write_bytes(change)
        with pytest.raises((BackupFailed, wal.WalError), match=error):
            restore(target, tmp_path / "new", start=START)
        assert not (tmp_path / "new").exists()
    segment.unlink()
    with pytest.raises(BackupFailed, match="is missing"):
        restore(target, tmp_path / "new", start=START)
    (target / "backup.json").write_text("{}")
    with pytest.raises(BackupFailed, match="format None"):
        restore(target, tmp_path / "new", start=START)


def test_a_restore_that_was_stopped_is_not_mixed_with_another(tmp_path: Path) -> None:
    directory, target = make_rich_directory(tmp_path / "manager"), tmp_path / "backup"
    backed_up(directory, target)
    left = tmp_path / ".new.restoring"
    left.mkdir()
    with pytest.raises(BackupFailed, match="remove it first"):
        restore(target, tmp_path / "new", start=START)
    left.rmdir()
    restored(target, tmp_path / "new")
    assert examine(Places.of(tmp_path / "new")).is_sound
    assert not left.exists()
