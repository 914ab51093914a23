"""What a log does when nothing goes wrong, on the fake file system and on the real one."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wal.builders import Disk, append_frames, fake_disk, payload, payloads, written_log
from wal import (
    RECORD_BYTES_MAX,
    Lock,
    Locked,
    Log,
    LogClosed,
    LogFailed,
    NotALog,
    Reader,
    RecordsGone,
    RecordTooLarge,
)
from wal.directory import LOCK_NAME, RESERVE_NAME, find_segments, join
from wal.filesystem import LOCK_POLL_SECONDS


def test_a_new_log_is_empty_and_has_room(disk: Disk) -> None:
    with disk.open() as log:
        assert log.last_lsn == log.durable_lsn == 0
        assert log.room
        assert len(log.log_id) == 16
        assert log.position.lsn == 0
        assert list(log.records()) == []
        assert not log.wait_durable(1)
    assert disk.warnings == []


def test_the_name_of_a_log_is_durable_whoever_made_the_directory() -> None:
    """As when a process was killed that had made it and not come to the sync."""
    disk, file_system = fake_disk()
    file_system.make_directory(disk.directory)
    log = disk.open()
    calls = [call[1:] for call in file_system.calls]
    synced = calls.index(("fsync_directory", "/data"))
    assert synced < calls.index(("create", f"{disk.directory}/{RESERVE_NAME}"))
    log.abandon()
    # A failed one is the end, as of every sync.
    file_system.fail_while(lambda call: errno.EIO if call.path == "/data" else None)
    with pytest.raises(LogFailed):
        disk.open()
    assert file_system.open_count == 0


def test_a_log_may_lie_in_a_directory_that_may_only_be_passed_through() -> None:
    disk, file_system = fake_disk()
    written = written_log(disk, frames=1)
    file_system.fail_while(lambda call: errno.EACCES if call.path == "/data" else None)
    assert disk.replay() == written


def test_records_come_back_as_they_were_appended(disk: Disk) -> None:
    written = [b"", b"one", b"\0" * 100, bytes(range(256))]
    log = disk.open()
    assert [log.append(each) for each in written] == [1, 2, 3, 4]
    assert (log.last_lsn, log.durable_lsn) == (4, 0)
    assert list(log.records()) == []  # Invariant 7: what is not durable is not shown.
    assert log.flush()
    assert log.durable_lsn == log.position.lsn == 4
    assert payloads(log.records()) == written
    log.close()
    assert disk.replay() == written
    assert disk.warnings == []


@pytest.mark.parametrize("end", [Log.close, Log.abandon])
def test_a_log_goes_on_where_it_stopped(disk: Disk, end: object) -> None:
    assert callable(end)
    written: list[bytes] = []
    for run in range(4):
        log = disk.open()
        assert log.last_lsn == len(written)
        assert payloads(log.records()) == written
        written += append_frames(log, start=len(written) + 1, frames=run)
        end(log)
    assert disk.replay() == written
    assert disk.warnings == []


def test_after_a_crash_writing_goes_on_in_the_same_segment(disk: Disk) -> None:
    written_log(disk, frames=1)
    written_log(disk, frames=1)
    assert len(disk.segments()) == 1


def test_after_a_clean_stop_the_next_record_starts_a_new_segment(disk: Disk) -> None:
    written_log(disk, frames=1, end=Log.close)
    disk.open().close()  # Opened for nothing: no segment for it.
    assert len(disk.segments()) == 1
    written_log(disk, frames=1, end=Log.close)
    assert len(disk.segments()) == 2


def test_an_empty_log_that_was_closed_goes_on_in_its_first_segment(disk: Disk) -> None:
    for _ in range(3):
        disk.open().close()
    written = written_log(disk, frames=1)
    assert len(disk.segments()) == 1
    assert disk.replay() == written


def test_segments_rotate_and_stay_within_their_size(disk: Disk) -> None:
    written = written_log(disk, frames=40)
    paths = disk.segments()
    assert len(paths) > 5
    file_system = disk.file_system
    for path in paths:
        fd = file_system.open(path)
        size = file_system.size(fd)
        assert size <= disk.segment_bytes
        assert size < disk.segment_bytes or path == paths[-1]
        file_system.close(fd)
    assert RESERVE_NAME in file_system.list_directory(disk.directory)
    assert disk.replay() == written


def test_a_record_larger_than_a_segment_gets_one_of_its_own(disk: Disk) -> None:
    log = disk.open()
    written = [b"small", b"x" * 5_000, b"small again", b"y" * 2_000]
    for each in written:
        log.append(each)
    assert log.flush()
    log.abandon()
    assert disk.replay() == written
    assert len(disk.segments()) == 4


def test_a_flush_that_does_not_fit_one_frame_takes_several(disk: Disk) -> None:
    log = disk.open()
    written = [payload(number) for number in range(200)]
    for each in written:
        log.append(each)
    assert log.flush()
    assert log.durable_lsn == 200
    log.close()
    assert disk.replay() == written


@pytest.mark.parametrize("after_lsn", [0, 1, 7, 38, 39, 40, 41])
def test_replay_starts_behind_any_record(disk: Disk, after_lsn: int) -> None:
    written = written_log(disk, frames=8, records=5)
    log = disk.open()
    assert payloads(log.records(after_lsn)) == written[after_lsn:]
    log.close()


def test_replay_of_a_record_before_the_oldest_segment_says_so(disk: Disk) -> None:
    written = written_log(disk, frames=40)
    first = find_segments(disk.file_system, disk.directory)[1]
    after = disk.position_of(first - 1)
    disk.file_system.unlink(disk.segments()[0])
    log = disk.open(after)
    assert payloads(log.records(first - 1)) == written[first - 1 :]
    with pytest.raises(RecordsGone) as caught:
        list(log.records())
    assert (caught.value.lsn, caught.value.first_lsn) == (1, first)
    log.close()


def test_the_segment_size_may_change_from_run_to_run(disk: Disk) -> None:
    written: list[bytes] = []
    for segment_bytes in (512, 2048, 256, 4096):
        disk.segment_bytes = segment_bytes
        written += written_log(disk, frames=20)
    assert disk.replay() == written


def test_a_record_over_the_limit_is_refused_and_changes_nothing(disk: Disk) -> None:
    disk.segment_bytes = 64 << 20
    with disk.open() as log:
        with pytest.raises(RecordTooLarge) as caught:
            log.append(bytes(RECORD_BYTES_MAX + 1))
        assert caught.value.size_bytes == RECORD_BYTES_MAX + 1
        assert isinstance(caught.value, ValueError)
        assert log.append(bytes(RECORD_BYTES_MAX)) == 1
        assert log.flush()
        (record,) = log.records()
        assert len(record.payload) == RECORD_BYTES_MAX


def test_the_lock_names_its_holder_and_ends_with_it(disk: Disk) -> None:
    disk.file_system.make_directory(disk.directory)
    fd = disk.file_system.open(join(disk.directory, "lock"), write=True, create=True)
    disk.file_system.pwrite(fd, b"99999999999999\n", 0)  # Left by one whose pid was longer.
    disk.file_system.close(fd)
    log = disk.open()
    with pytest.raises(Locked) as caught:
        disk.open()
    assert caught.value.pid == os.getpid()
    assert caught.value.path == join(disk.directory, "lock")
    log.abandon()
    disk.open().close()
    disk.open().close()


def test_the_lock_may_be_elsewhere(disk: Disk) -> None:
    disk.open().close()
    lock_path = join(disk.directory, "elsewhere")
    log = Log.open(disk.directory, file_system=disk.file_system, lock_path=lock_path)
    with pytest.raises(Locked) as caught:
        Log.open(disk.directory, file_system=disk.file_system, lock_path=lock_path)
    assert caught.value.path == lock_path
    log.close()


@pytest.mark.parametrize("end", [Log.close, Log.abandon])
def test_a_lock_that_was_taken_before_is_handed_over_and_ends_with_the_log(
    disk: Disk, end: Callable[[Log], None]
) -> None:
    disk.file_system.make_directory(disk.directory)
    path = join(disk.directory, "elsewhere")
    log = disk.open(lock=Lock(path, file_system=disk.file_system))
    with pytest.raises(Locked):
        Lock(path, file_system=disk.file_system)
    assert LOCK_NAME not in disk.file_system.list_directory(disk.directory)
    end(log)
    Lock(path, file_system=disk.file_system).release()


def test_a_lock_that_was_handed_over_is_let_go_if_the_log_does_not_open() -> None:
    disk, file_system = fake_disk()
    file_system.put(join(disk.directory, "00000000000000000001.wal"), b"Dear diary")
    path = join(disk.directory, "lock")
    with pytest.raises(NotALog):
        disk.open(lock=Lock(path, file_system=file_system))
    assert file_system.open_count == 0
    disk.segment_bytes = 1
    with pytest.raises(ValueError, match="segment of 1 bytes"):
        disk.open(lock=Lock(path, file_system=file_system))
    assert file_system.open_count == 0


def test_a_lock_that_another_holds_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    probe = Lock(path)
    with pytest.raises(Locked):
        Lock(path)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            probe.release()

    monkeypatch.setattr(time, "sleep", pause)
    Lock(path).release()
    assert pauses == [LOCK_POLL_SECONDS] * 3


@pytest.mark.parametrize("end", [Log.close, Log.abandon])
def test_a_log_that_is_over_refuses_everything_but_its_end(disk: Disk, end: object) -> None:
    assert callable(end)
    log = disk.open()
    log.append(b"one")
    end(log)
    with pytest.raises(LogClosed):
        log.append(b"two")
    with pytest.raises(LogClosed):
        log.flush()
    with pytest.raises(LogClosed):
        log.start(print, print, print)
    log.close()
    log.abandon()
    log.close()
    assert disk.replay() == ([b"one"] if end is Log.close else [])


def test_positions_name_the_log_the_record_and_the_history(disk: Disk) -> None:
    log = disk.open()
    seen = {log.position}
    for number in range(1, 30):
        log.append(payload(number))
        assert log.flush()
        assert log.position.log_id == log.log_id
        assert log.position.lsn == number
        seen.add(log.position)
    assert len({position.chain for position in seen}) == 30
    last = log.position
    log.close()
    with disk.open() as log:
        assert log.position == last
    with Reader(disk.directory, file_system=disk.file_system) as reader:
        assert reader.position in seen
        while reader.read(1):
            assert reader.position in seen
        assert reader.position == last
