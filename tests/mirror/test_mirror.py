"""A manager's own copy of a journal: rows in, the same frames in files."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

import wal
from tests.wal.builders import Disk, fake_disk, payload, payloads
from tests.wal.fake_fs import FakeFileSystem
from titan.journal.mirror import Mirror
from titan.journal.rows import Row, encode

LOG_ID = bytes(range(16))
START = wal.Position(LOG_ID, 0, wal.first_chain(LOG_ID))


def begun(position: wal.Position = START) -> tuple[Mirror, Disk, FakeFileSystem]:
    disk, file_system = fake_disk()
    wal.begin(disk.directory, position, file_system=file_system, segment_bytes=disk.segment_bytes)
    return Mirror(disk.open(position if position.lsn else None)), disk, file_system


def rows_of(position: wal.Position, sizes: Sequence[int], term: int = 1) -> list[Row]:
    """A row of so many records each."""
    rows = []
    for size in sizes:
        records = [payload(position.lsn + 1 + number) for number in range(size)]
        rows.append(encode(position.lsn + 1, records, position.chain, term))
        position = wal.Position(LOG_ID, rows[-1].last_lsn, rows[-1].chain)
    return rows


def frames_of(disk: Disk, after: wal.Position = START) -> list[tuple[int, int, int, bytes]]:
    log = disk.open(after if after.lsn else None)
    try:
        return [
            (frame.first_lsn, frame.last_lsn, frame.chain, frame.body)
            for frame in log.frames(after.lsn)
        ]
    finally:
        log.abandon()


def as_frames(rows: Sequence[Row]) -> list[tuple[int, int, int, bytes]]:
    return [(row.first_lsn, row.last_lsn, row.chain, row.body) for row in rows]


@pytest.mark.parametrize("position", [START, wal.Position(LOG_ID, 700, 9)])
def test_each_row_is_one_frame_with_the_same_chain_across_segments(position: wal.Position) -> None:
    mirror, disk, _ = begun(position)
    rows = rows_of(position, [1, 5, 2, 30, 1, 1, 8, 3] * 5)
    for row in rows:
        assert mirror.add(row)
        assert mirror.position == wal.Position(LOG_ID, row.last_lsn, row.chain)
        assert mirror.room
        assert mirror.last_segment_bytes > 0
    with disk.reader(position=position) as reader:  # Others read along while it is added to.
        assert len(payloads(reader)) == 5 * 51
    mirror.abandon()
    assert len(disk.segments()) > 5
    assert frames_of(disk, position) == as_frames(rows)
    assert disk.warnings == []


def test_a_mirror_goes_on_where_it_was_let_go_or_killed() -> None:
    mirror, disk, file_system = begun()
    rows = rows_of(START, [3] * 30)
    for row in rows[:10]:
        assert mirror.add(row)
    mirror.abandon()
    mirror = Mirror(disk.open())
    for row in rows[10:20]:
        assert mirror.add(row)
    file_system.crash(keep="none")
    mirror = Mirror(disk.open())
    assert mirror.position.lsn == rows[19].last_lsn
    for row in rows[20:]:
        assert mirror.add(row)
    mirror.close()
    assert frames_of(disk) == as_frames(rows)


def test_a_row_that_the_disk_refused_is_added_again_and_is_there_once() -> None:
    mirror, disk, file_system = begun()
    first, second, third = rows_of(START, [2, 3, 4])
    assert mirror.add(first)
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    assert not mirror.add(second)
    assert not mirror.add(second)
    assert not mirror.look_for_room()
    assert mirror.position.lsn == first.last_lsn
    with pytest.raises(RuntimeError, match="on their way"):
        mirror.add(third)
    file_system.fail_while(None)
    assert mirror.add(second)
    assert mirror.add(second)  # Nothing happens: it is there.
    assert mirror.add(third)
    mirror.close()
    assert frames_of(disk) == as_frames([first, second, third])


def test_room_comes_back_though_no_row_does() -> None:
    mirror, disk, file_system = begun()
    first, second = rows_of(START, [2, 3])
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    assert not mirror.add(first)
    file_system.fail_while(None)
    assert mirror.look_for_room()
    assert mirror.position.lsn == first.last_lsn
    assert mirror.add(first)
    assert mirror.add(second)
    mirror.close()
    assert frames_of(disk) == as_frames([first, second])


def test_a_row_that_does_not_follow_is_refused_and_changes_nothing() -> None:
    mirror, disk, _ = begun()
    first, second, third = rows_of(START, [2, 3, 4])
    other = encode(first.last_lsn + 1, [b"of another history"], 7, term=2)
    assert mirror.add(first)
    for wrong in (third, other, first._replace(chain=7), second._replace(chain=8)):
        with pytest.raises(wal.PositionMismatch):
            mirror.add(wrong)
    with pytest.raises(ValueError, match="record"):
        mirror.add(second._replace(body=second.body[:-1]))
    assert mirror.add(second)
    mirror.close()
    assert frames_of(disk) == as_frames([first, second])


def test_a_disk_that_failed_ends_the_mirror() -> None:
    mirror, _, file_system = begun()
    first, second = rows_of(START, [2, 3])
    file_system.fail_while(lambda call: errno.EIO if call.operation == "fdatasync" else None)
    with pytest.raises(wal.LogFailed):
        mirror.add(first)
    file_system.fail_while(None)
    with pytest.raises(wal.LogFailed):
        mirror.add(second)
    mirror.abandon()
