"""The tools that only read, beside a writer that goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import wal
from tests.waltools.builders import SEGMENT_BYTES, history, make_directory
from tests.waltools.corruptions import make_rich_directory, snapshot
from titan.snapshots import take_snapshot
from titan.waltools import stat as stat_module
from titan.waltools.examine import Named, examine, find_slots
from titan.waltools.places import Places
from titan.waltools.stat import stat
from titan.waltools.verify import verify
from wal.filesystem import OsFileSystem


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Path, threading.Thread]]:
    """A directory that is being written, snapshot and tidied up until the history ends."""
    directory = make_directory(tmp_path / "manager", history()[:30])
    log = wal.Log.open(directory / "wal", lock_path=directory / "lock", segment_bytes=SEGMENT_BYTES)
    log.start(lambda _: None, lambda _: None, lambda _: None)

    def work() -> None:
        for lsn, payload in enumerate(history()[30:], 31):
            log.wait_durable(log.append(payload))
            if lsn % 20 == 0:
                take_snapshot(directory, lambda _: None, left_free_bytes=0)
                with wal.Reader(directory / "wal", from_lsn=lsn) as reader:
                    reader.read(1)
                    wal.write_slot(directory / "readers", "history", reader.position)
            if lsn % 50 == 0:
                wal.remove_segments_before(directory / "wal", lsn - 20)

    writer = threading.Thread(target=work)
    writer.start()
    yield directory, writer
    writer.join()
    log.close()


def test_verify_finds_nothing_wrong_with_a_log_that_is_being_written(
    live: tuple[Path, threading.Thread],
) -> None:
    directory, writer = live
    looks = 0
    while writer.is_alive() or not looks:
        found = verify(Places.of(directory))
        assert found.is_sound, [check for check in found.checks if check.fault]
        looks += 1


def test_stat_counts_a_log_that_is_being_written(live: tuple[Path, threading.Thread]) -> None:
    directory, writer = live
    reached = [0]
    while writer.is_alive() or len(reached) == 1:
        found = stat(Places.of(directory))
        assert found["damage"] == []
        reached.append(found["last_lsn"])
    assert reached == sorted(reached)


def test_a_reader_that_comes_while_the_slots_are_looked_at_is_no_damage(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager", history()[:30])

    class Growing(OsFileSystem):
        """After each look at the directory there is one slot more."""

        def list_directory(self, path: str) -> list[str]:
            names = super().list_directory(path)
            with wal.Reader(directory / "wal", from_lsn=1) as reader:
                reader.read(1)
                wal.write_slot(directory / "readers", f"r{len(names)}", reader.position)
            return names

    (directory / "readers").mkdir(exist_ok=True)
    found = find_slots(Places.of(directory), Growing())
    assert [each.fault for each in found if each.fault] == []


@pytest.mark.parametrize("removed_before", [61, 91])
def test_snapshots_that_are_replaced_while_the_log_is_looked_at_are_no_damage(
    tmp_path: Path, removed_before: int
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    wal.remove_segments_before(directory / "wal", 61)
    tidied: list[int] = []

    class Tidying(OsFileSystem):
        """After the first look at the snapshots there is another one instead."""

        def list_directory(self, path: str) -> list[str]:
            names = super().list_directory(path)
            if path == str(directory / "snapshots") and not tidied:
                tidied.extend(wal.find_snapshots(path))
                snapshot(directory)
                for lsn in tidied:
                    wal.remove_snapshot(path, lsn)
                wal.remove_segments_before(directory / "wal", removed_before)
            return names

    found = examine(Places.of(directory), file_system=Tidying())
    assert tidied == [60, 110]
    assert found.is_sound, (found.log.faults, found.replay_faults)
    assert [each.path.name for each in found.snapshots] == [wal.snapshot_name(150)]


def test_a_reader_that_goes_on_while_the_log_is_counted_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    moved: list[int] = []

    def find_and_move(places: Places) -> list[Named]:
        """What was there; then its reader goes on, and what it has read is removed."""
        found = find_slots(places)
        with wal.Reader(directory / "wal", from_lsn=121) as reader:
            wal.write_slot(directory / "readers", "history", reader.position)
        moved.append(wal.remove_segments_before(directory / "wal", 111))
        return found

    monkeypatch.setattr(stat_module, "find_slots", find_and_move)
    found = stat(Places.of(directory))
    assert moved[0]
    assert found["first_lsn"] > 91
    assert found["damage"] == []
