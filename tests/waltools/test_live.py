"""The tools that only read, beside a writer that goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import wal
from tests.waltools.builders import SEGMENT_BYTES, history, make_directory
from titan.snapshots import take_snapshot
from titan.waltools.examine import find_slots
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
