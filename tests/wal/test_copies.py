"""Logs that are to have the frames of another: begun at a position, and written frame by frame."""

from __future__ import annotations

import errno
import zlib

import pytest

from tests.wal.builders import (
    LOSSES,
    SEGMENT_BYTES,
    Disk,
    append_frames,
    fake_disk,
    payload,
    payloads,
    written_log,
)
from wal import (
    FRAME_BODY_BYTES_MAX,
    RECORD_BYTES_MAX,
    Damaged,
    Log,
    PackedFrame,
    Position,
    PositionMismatch,
    RecordsGone,
    RecordTooLarge,
    begin,
    first_chain,
    pack_records,
    unpack_records,
)
from wal.directory import DURABLE_NAME, join

LOG_ID = bytes(range(16))
START = Position(LOG_ID, 0, first_chain(LOG_ID))
LATER = Position(LOG_ID, 500, 0xDEADBEEF)


def begun(disk: Disk, position: Position) -> Log:
    begin(
        disk.directory,
        position,
        file_system=disk.file_system,
        segment_bytes=disk.segment_bytes,
        random_bytes=disk.random.randbytes,
    )
    return disk.open(position if position.lsn else None)


def frames_of(disk: Disk, after_lsn: int = 0) -> list[PackedFrame]:
    log = disk.open()
    try:
        return list(log.frames(after_lsn))
    finally:
        log.abandon()


def copied(frames: list[PackedFrame], position: Position, segment_bytes: int) -> Disk:
    """Another disk with these frames in segments of that size."""
    disk, _ = fake_disk(segment_bytes=segment_bytes)
    log = begun(disk, position)
    for frame in frames:
        assert log.write_frame(frame)
        assert log.position == Position(log.log_id, frame.last_lsn, frame.chain)
        assert log.last_lsn == log.durable_lsn == frame.last_lsn
    log.close()
    return disk


@pytest.mark.parametrize("position", [START, LATER])
def test_a_log_that_was_begun_goes_on_after_its_position(disk: Disk, position: Position) -> None:
    log = begun(disk, position)
    assert log.position == position
    assert list(log.records(position.lsn)) == []
    written = append_frames(log, start=1, frames=20)
    assert payloads(log.records(position.lsn)) == written
    log.close()
    with disk.reader(position=position) as reader:
        assert payloads(reader) == written
        assert reader.position.log_id == LOG_ID
    log = disk.open(position if position.lsn else None)
    assert log.last_lsn == position.lsn + 40
    log.abandon()
    assert disk.warnings == []


def test_a_log_that_was_begun_later_needs_what_leads_there(disk: Disk) -> None:
    begun(disk, LATER).abandon()
    with pytest.raises(Damaged, match="expected record 1, found record 501"):
        disk.open()
    with pytest.raises(Damaged, match="expected chain CRC 00000001 at record 500"):
        disk.open(Position(LOG_ID, 500, 1))
    log = disk.open(LATER)
    with pytest.raises(RecordsGone):
        list(log.frames(499))
    log.abandon()


@pytest.mark.parametrize("name", ["00000000000000000007.wal", DURABLE_NAME])
def test_a_log_is_not_begun_where_one_is_or_was(name: str) -> None:
    disk, file_system = fake_disk()
    file_system.put(join(disk.directory, name), b"whatever")
    before = file_system.list_directory(disk.directory)
    with pytest.raises(FileExistsError):
        begin(disk.directory, LATER, file_system=file_system)
    assert file_system.list_directory(disk.directory) == before
    assert file_system.open_count == 0


def test_a_log_does_not_begin_with_a_chain_that_is_not_its_own(disk: Disk) -> None:
    with pytest.raises(ValueError, match="chain CRC 00000007"):
        begin(disk.directory, START._replace(chain=7), file_system=disk.file_system)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_was_begun_survives_a_power_loss(loss: object) -> None:
    assert callable(loss)
    disk, file_system = fake_disk()
    begin(disk.directory, LATER, file_system=file_system, segment_bytes=SEGMENT_BYTES)
    assert file_system.open_count == 0
    loss(file_system)
    log = disk.open(LATER)
    assert log.position == LATER
    log.abandon()
    assert disk.warnings == []


@pytest.mark.parametrize("segment_bytes", [256, 512, 700, 1 << 16])
def test_a_copy_has_the_same_frames_whatever_its_segments(segment_bytes: int) -> None:
    disk, _ = fake_disk()
    log = disk.open()
    append_frames(log, start=1, frames=20)
    append_frames(log, start=41, frames=9, records=3)
    log.append(b"large" * 400)  # More than a segment.
    log.flush()
    start = Position(log.log_id, 0, first_chain(log.log_id))
    log.close()
    frames = frames_of(disk)
    assert sum(frame.record_count for frame in frames) == 68
    copy = copied(frames, start, segment_bytes)
    assert frames_of(copy) == frames
    assert copy.replay() == disk.replay()
    assert copy.warnings == []


@pytest.mark.parametrize("after_lsn", [0, 1, 7, 38, 39, 40])
def test_frames_begin_with_the_one_of_the_record(disk: Disk, after_lsn: int) -> None:
    written_log(disk, frames=8, records=5)
    every = frames_of(disk)
    assert [frame.first_lsn for frame in every] == [1, 6, 11, 16, 21, 26, 31, 36]
    assert frames_of(disk, after_lsn) == every[after_lsn // 5 :]


def test_a_copy_of_a_part_goes_on_where_the_part_begins() -> None:
    disk, _ = fake_disk()
    written = written_log(disk, frames=20)
    frames = frames_of(disk)
    position = disk.position_of(20)
    copy = copied(frames[10:], position, 512)
    log = copy.open(position)
    assert payloads(log.records(20)) == written[20:]
    log.abandon()


def packed(written: list[bytes], after: Position) -> PackedFrame:
    body, chain = pack_records(written, after.chain)
    return PackedFrame(after.lsn + 1, len(written), body, chain)


def test_a_frame_that_is_refused_is_kept_and_written_once() -> None:
    disk, file_system = fake_disk()
    log = begun(disk, START)
    frame = packed([payload(1), payload(2)], START)
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    assert not log.write_frame(frame)
    assert not log.flush()
    assert not log.room
    assert (log.last_lsn, log.durable_lsn) == (2, 0)
    with pytest.raises(RuntimeError, match="on their way"):
        log.write_frame(frame)
    file_system.fail_while(None)
    assert log.flush()
    assert log.position == Position(LOG_ID, 2, frame.chain)
    assert log.write_frame(packed([b"more"], log.position))
    log.close()
    assert disk.replay() == [payload(1), payload(2), b"more"]


def test_a_frame_that_does_not_follow_is_refused_and_changes_nothing() -> None:
    disk, _ = fake_disk()
    log = begun(disk, START)
    frame = packed([payload(1), payload(2)], START)
    for wrong in (
        frame._replace(first_lsn=2),
        frame._replace(chain=7),
        packed([payload(1)], START._replace(chain=7)),
    ):
        with pytest.raises(PositionMismatch):
            log.write_frame(wrong)
    assert log.write_frame(frame)
    with pytest.raises(PositionMismatch):
        log.write_frame(frame)
    log.close()
    assert disk.replay() == [payload(1), payload(2)]


def test_only_what_can_be_read_again_is_written() -> None:
    disk, _ = fake_disk(segment_bytes=64 << 20)
    log = begun(disk, START)
    frame = packed([b"one", b"two"], START)
    body = frame.body
    for count, wrong in ((0, b""), (1, body), (3, body), (2, body + b"x"), (2, b""), (2, body[:9])):
        with pytest.raises(ValueError, match=r"record|body"):
            log.write_frame(PackedFrame(1, count, wrong, zlib.crc32(wrong, START.chain)))
    with pytest.raises(RecordTooLarge):
        log.write_frame(packed([bytes(RECORD_BYTES_MAX + 1)], START))
    with pytest.raises(ValueError, match="not the body of a frame of 3 records"):
        log.write_frame(packed([bytes(FRAME_BODY_BYTES_MAX // 3)] * 3, START))
    log.append(b"mine")
    with pytest.raises(RuntimeError, match="on their way"):
        log.write_frame(frame)
    assert log.flush()
    frame = packed([b"one", b"two"], log.position)
    assert log.write_frame(frame)
    log.start(lambda _: None, lambda _: None, lambda _: None)
    with pytest.raises(RuntimeError, match="on their way"):
        log.write_frame(frame)
    log.close()
    assert disk.replay() == [b"mine", b"one", b"two"]


@pytest.mark.parametrize("count", [1, 2, 1_023, 1_024, 1_025, 5_000])
def test_packed_records_come_apart_again(count: int) -> None:
    written = [payload(number) for number in range(count)]
    body, chain = pack_records(written, 7)
    assert chain == pack_records(written, 7)[1] != pack_records(written, 8)[1]
    lists = list(unpack_records(41, count, body, "a row"))
    assert payloads(record for some in lists for record in some) == written
    assert lists[0][0].lsn == 41
    assert max(map(len, lists)) <= 1_024


def test_what_are_no_packed_records_is_damaged() -> None:
    body, _ = pack_records([b"one", b"two"], 0)
    for count, wrong in ((0, body), (9, body), (2, body + b"x"), (2, body[:-1]), (1, body)):
        with pytest.raises(Damaged, match="a row: damaged"):
            list(unpack_records(1, count, wrong, "a row"))
