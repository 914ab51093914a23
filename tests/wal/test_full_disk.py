"""A disk that is full or refuses for a while: nothing is lost, and it ends by itself."""

import errno

import pytest

from tests.wal.builders import append_frames, fake_disk, has_room, payload, payloads
from tests.wal.fake_fs import Call
from wal import NotFlushed
from wal.directory import RESERVE_NAME


def test_without_space_for_the_next_segment_there_is_no_room_but_records_are_taken() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    assert has_room(log)
    file_system.capacity = file_system.used
    written: list[bytes] = []
    while has_room(log):
        written += append_frames(log, start=len(written) + 1, frames=1)
    # The reserve has become the segment in use, and there is no other.
    assert log.durable_lsn == log.last_lsn == len(written)
    assert len(disk.segments()) == 2
    assert len(disk.warnings) == 1
    before = len(written)
    written += append_frames(log, start=len(written) + 1, frames=1)
    assert not has_room(log)
    file_system.capacity = None
    assert log.flush()  # It notices by itself, with nothing to write.
    assert has_room(log)
    log.close()
    assert disk.replay() == written
    assert before < len(written)
    assert len(disk.warnings) == 1


def test_on_a_full_disk_records_wait_and_are_written_when_there_is_space() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    file_system.capacity = file_system.used
    written: list[bytes] = []
    for number in range(1, 200):
        written.append(payload(number))
        log.append(written[-1])
        if not log.flush():
            break
    else:
        pytest.fail("the disk never was full")
    durable_lsn = log.durable_lsn
    assert not has_room(log)
    assert durable_lsn < log.last_lsn == len(written)
    for number in range(len(written) + 1, len(written) + 10):
        written.append(payload(number))
        log.append(written[-1])  # Never blocks, never fails.
        assert not log.flush()
        assert log.durable_lsn == durable_lsn
    assert payloads(log.records()) == written[:durable_lsn]
    file_system.capacity = None
    assert log.flush()
    assert has_room(log)
    assert log.durable_lsn == len(written)
    written += append_frames(log, start=len(written) + 1, frames=20)
    log.close()
    assert disk.replay() == written


def test_a_reserve_that_does_not_fit_gives_back_what_it_got() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    file_system.capacity = file_system.used + 300
    written: list[bytes] = []
    while has_room(log):
        written += append_frames(log, start=len(written) + 1, frames=1)
    assert len(file_system.files[f"{disk.directory}/{RESERVE_NAME}"]) == 0
    log.close()
    assert disk.replay() == written


def test_every_size_of_a_full_disk_is_recovered_from() -> None:
    for spare in range(0, 1600, 37):
        disk, file_system = fake_disk()
        log = disk.open()
        file_system.capacity = file_system.used + spare
        written = [payload(number) for number in range(1, 60)]
        for each in written:
            log.append(each)
            log.flush()
        assert not has_room(log)
        file_system.crash("random" if spare % 2 else "none")
        durable_lsn = log.durable_lsn
        file_system.capacity = None
        found = disk.replay()
        assert found == written[: len(found)]
        assert len(found) >= durable_lsn


def test_a_write_that_failed_in_the_middle_is_cut_back_at_once() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    append_frames(log, start=1, frames=1)
    path = disk.segments()[0]
    before = bytes(file_system.files[path]).rstrip(b"\0")
    log.append(payload(3))
    file_system.fail_at(len(file_system.calls) + 1, errno.EIO, written=20)
    assert not log.flush()
    assert bytes(file_system.files[path]) == before
    assert log.flush()
    assert has_room(log)
    assert len(file_system.files[path]) == disk.segment_bytes  # Preallocated again.
    log.abandon()
    assert disk.replay() == [payload(1), payload(2), payload(3)]
    assert not [text for text in disk.warnings if "torn" in text]


def test_the_same_bytes_are_tried_again_whatever_was_appended_meanwhile() -> None:
    disk, file_system = fake_disk()
    writes: list[Call] = []
    log = disk.open()
    log.append(b"first")
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    for _ in range(5):
        assert not log.flush()
        log.append(b"later")
    file_system.fail_while(None)
    file_system.on_call = writes.append
    assert log.flush()
    frames = [call for call in writes if call.operation == "write" and "durable" not in call.path]
    assert len(frames) == 2  # The kept frame, and one for all that had gathered.
    log.close()
    assert disk.replay() == [b"first"] + [b"later"] * 5
    assert len(disk.warnings) == 1


def test_closing_on_a_full_disk_says_what_is_lost_and_keeps_what_is_durable() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    written = append_frames(log, start=1, frames=1)
    log.append(b"lost")
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    with pytest.raises(NotFlushed) as caught:
        log.close()
    assert (caught.value.durable_lsn, caught.value.last_lsn) == (2, 3)
    log.close()
    file_system.fail_while(None)
    assert disk.replay() == written
    assert file_system.open_count == 0


def test_a_hint_for_readers_that_cannot_be_written_holds_nobody_up() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    file_system.fail_while(
        lambda call: errno.EIO if call.operation == "write" and "durable" in call.path else None
    )
    written = append_frames(log, start=1, frames=3)
    assert has_room(log)
    file_system.fail_while(None)
    assert log.flush()  # Tried again with the next flush, even an empty one.
    log.close()
    assert disk.replay() == written


def test_opening_on_a_full_disk_works_and_has_no_room() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    written = append_frames(log, start=1, frames=2)
    log.close()
    file_system.remove(f"{disk.directory}/{RESERVE_NAME}")
    file_system.capacity = file_system.used
    log = disk.open()
    assert not has_room(log)
    assert payloads(log.records()) == written
    file_system.capacity = None
    assert log.flush()
    assert has_room(log)
    log.close()


def test_opening_on_a_full_disk_puts_a_torn_tail_aside_in_the_place_of_the_reserve() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    written = append_frames(log, start=1, frames=1)
    log.abandon()
    path = disk.segments()[0]
    content = bytes(file_system.files[path]).rstrip(b"\0") + b"torn" * 20
    file_system.put(path, content.ljust(disk.segment_bytes, b"\0"))
    file_system.capacity = file_system.used
    log = disk.open()
    assert not has_room(log)
    assert payloads(log.records()) == written
    assert [data for name, data in file_system.files.items() if "torn-" in name] == [b"torn" * 20]
    written += append_frames(log, start=3, frames=1)
    file_system.capacity = None
    assert log.flush()
    assert has_room(log)
    log.close()
    assert disk.replay() == written
