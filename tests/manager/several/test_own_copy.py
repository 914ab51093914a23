"""What follows the database behind: this manager's own copy of the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import wal
from tests.cluster import wait_until
from tests.manager.harness import DEADLINE_SECONDS
from titan.journal.mirror import Mirror
from titan.journal.rows import Row, encode
from titan.manager.several import own_copy
from titan.manager.several.own_copy import Copying, OwnCopy

LOG_ID: Final = bytes(range(16))
BEGIN: Final = wal.Position(LOG_ID, 0, wal.first_chain(LOG_ID))


def rows(count: int, size_bytes: int = 10) -> list[Row]:
    made: list[Row] = []
    lsn, chain = 1, BEGIN.chain
    for number in range(count):
        made.append(encode(lsn, [bytes([number % 256]) * size_bytes] * 2, chain, 1))
        lsn, chain = lsn + 2, made[-1].chain
    return made


class FullDisk(wal.OsFileSystem):
    """Takes no byte while it is full."""

    def __init__(self) -> None:
        self.is_full = False
        self.tries = 0

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.is_full:
            self.tries += 1
            raise OSError(28, "it is full")
        return super().pwrite(fd, data, offset)


class Failures(list[BaseException]):
    """Whatever is told ends the test."""

    def __call__(self, error: BaseException) -> None:
        self.append(error)


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def copy(tmp_path: Path, disk: FullDisk) -> Iterator[OwnCopy]:
    wal.begin(tmp_path / "wal", BEGIN)
    made = OwnCopy(Mirror(wal.Log.open(tmp_path / "wal", file_system=disk, segment_bytes=1 << 16)))
    yield made
    made.abandon()


def test_rows_come_into_it_in_their_order(copy: OwnCopy, tmp_path: Path) -> None:
    failures = Failures()
    copying = Copying(copy, failures)
    for row in rows(100):
        copying.add(row)
    copying.stop(DEADLINE_SECONDS)
    assert copy.durable_lsn == 200
    assert copy.appended_bytes == sum(len(row.body) for row in rows(100))
    with wal.Reader(tmp_path / "wal", from_lsn=1) as reader:
        assert [record.lsn for record in reader] == list(range(1, 201))
    assert not failures


def test_on_a_full_disk_it_falls_behind_and_goes_on_later(copy: OwnCopy, disk: FullDisk) -> None:
    failures = Failures()
    copying = Copying(copy, failures)
    disk.is_full = True
    made = rows(3)
    copying.add(made[0])
    wait_until(lambda: disk.tries > 0 and not copying.has_room)
    copying.add(made[1])
    copying.add(made[2])
    assert copy.durable_lsn == 0
    disk.is_full = False
    wait_until(lambda: copy.durable_lsn == 6)
    wait_until(lambda: copying.has_room)
    copying.stop(DEADLINE_SECONDS)
    assert not failures


def test_a_stop_does_not_wait_for_more_rows_to_gather(
    copy: OwnCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_copy, "GATHER_SECONDS", 3600.0)
    failures = Failures()
    copying = Copying(copy, failures)
    made = rows(3)
    copying.add(made[0])
    # The first one is not waited with.
    wait_until(lambda: copy.durable_lsn == made[0].last_lsn)
    copying.add(made[1])
    copying.add(made[2])
    copying.stop(DEADLINE_SECONDS)
    assert copy.durable_lsn == made[2].last_lsn
    assert failures == []


def test_a_stop_does_not_wait_for_a_full_disk(copy: OwnCopy, disk: FullDisk) -> None:
    failures = Failures()
    threads = set(threading.enumerate())
    copying = Copying(copy, failures)
    disk.is_full = True
    copying.add(rows(1)[0])
    wait_until(lambda: disk.tries > 0)
    copying.stop(DEADLINE_SECONDS)
    assert set(threading.enumerate()) <= threads
    assert copy.durable_lsn == 0
    assert not failures


def test_too_much_behind_it_has_no_room(
    copy: OwnCopy, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_copy, "BEHIND_BYTES_MAX", 100)
    copying = Copying(copy, Failures())
    wait_until(lambda: copying.has_room)
    held, go = threading.Event(), threading.Event()

    write = disk.fdatasync

    def wait(fd: int) -> None:
        held.set()
        assert go.wait(DEADLINE_SECONDS)
        write(fd)

    monkeypatch.setattr(disk, "fdatasync", wait)
    for row in rows(4, 20):
        copying.add(row)
    assert held.wait(DEADLINE_SECONDS)
    wait_until(lambda: not copying.has_room)
    go.set()
    wait_until(lambda: copying.has_room)
    copying.stop(DEADLINE_SECONDS)
    assert copy.durable_lsn == 8


def test_what_does_not_follow_is_told_once(copy: OwnCopy) -> None:
    failures = Failures()
    copying = Copying(copy, failures)
    first, _, third = rows(3)
    copying.add(first)
    copying.add(third)
    copying.stop(DEADLINE_SECONDS)
    assert [type(each) for each in failures] == [wal.PositionMismatch]
    assert copy.durable_lsn == 2
