"""The fake file system does what the real one does, and forgets what it says it forgets."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.wal.builders import Disk
from tests.wal.fake_fs import FakeFileSystem, SimulatedCrash
from wal import FileSystem, OsFileSystem
from wal.filesystem import read_all, write_all

# The shared part: the same calls, the same answers.


@pytest.fixture
def place(disk: Disk) -> tuple[FileSystem, str]:
    disk.file_system.make_directory(disk.directory)
    return disk.file_system, disk.directory


def test_what_is_written_can_be_read(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    fd = file_system.open(f"{directory}/a", write=True, create=True)
    assert file_system.pwrite(fd, b"hello", 3) == 5
    assert file_system.size(fd) == 8
    assert file_system.pread(fd, 100, 0) == b"\0\0\0hello"
    assert file_system.pread(fd, 2, 4) == b"el"
    assert file_system.pread(fd, 2, 8) == b""
    file_system.fallocate(fd, 12)
    file_system.fallocate(fd, 4)
    assert file_system.pread(fd, 100, 0) == b"\0\0\0hello\0\0\0\0"
    file_system.ftruncate(fd, 5)
    assert file_system.pread(fd, 100, 0) == b"\0\0\0he"
    file_system.fdatasync(fd)
    file_system.fsync(fd)
    file_system.close(fd)


def test_names_come_and_go(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    for name in "ab":
        fd = file_system.open(f"{directory}/{name}", write=True, create=True)
        file_system.pwrite(fd, name.encode(), 0)
        file_system.close(fd)
    assert sorted(file_system.list_directory(directory)) == ["a", "b"]
    fd = file_system.open(f"{directory}/b")
    file_system.rename(f"{directory}/a", f"{directory}/b")
    assert file_system.list_directory(directory) == ["b"]
    assert file_system.pread(fd, 9, 0) == b"b"  # A descriptor stays with its file.
    file_system.close(fd)
    fd = file_system.open(f"{directory}/b")
    assert file_system.pread(fd, 9, 0) == b"a"
    file_system.unlink(f"{directory}/b")
    file_system.fsync_directory(directory)
    assert file_system.list_directory(directory) == []
    file_system.close(fd)


def test_what_is_not_there_is_an_error(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    calls: list[Callable[[], object]] = [
        lambda: file_system.open(f"{directory}/none"),
        lambda: file_system.open(f"{directory}/none", write=True),
        lambda: file_system.open(f"{directory}/none/a", write=True, create=True),
        lambda: file_system.rename(f"{directory}/none", f"{directory}/a"),
        lambda: file_system.unlink(f"{directory}/none"),
        lambda: file_system.list_directory(f"{directory}/none"),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()


def test_a_file_opened_for_reading_is_not_written_and_a_closed_one_not_used(
    place: tuple[FileSystem, str],
) -> None:
    file_system, directory = place
    file_system.close(file_system.open(f"{directory}/a", write=True, create=True))
    fd = file_system.open(f"{directory}/a")
    with pytest.raises(OSError, match="descriptor") as caught:
        file_system.pwrite(fd, b"x", 0)
    assert caught.value.errno == errno.EBADF
    file_system.close(fd)
    with pytest.raises(OSError, match="descriptor"):
        file_system.pread(fd, 1, 0)


def test_a_lock_is_held_by_one_and_ends_when_the_file_is_closed(
    place: tuple[FileSystem, str],
) -> None:
    file_system, directory = place
    first = file_system.open(f"{directory}/lock", write=True, create=True)
    second = file_system.open(f"{directory}/lock", write=True, create=True)
    assert file_system.lock(first)
    assert file_system.lock(first)
    assert not file_system.lock(second)
    file_system.close(first)
    assert file_system.lock(second)
    file_system.close(second)


def test_directories_are_made_with_their_parents_and_again(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    for _ in range(2):
        file_system.make_directory(f"{directory}/a/b/c")
        assert file_system.list_directory(f"{directory}/a/b/c") == []


# What only the fake one does.


def made(*, synced: bytes, unsynced: bytes) -> tuple[FakeFileSystem, int]:
    file_system = FakeFileSystem(Random(1))
    file_system.make_directory("/d")
    fd = file_system.open("/d/a", write=True, create=True)
    file_system.pwrite(fd, synced, 0)
    file_system.fsync(fd)
    file_system.fsync_directory("/d")
    file_system.pwrite(fd, unsynced, len(synced))
    return file_system, fd


def test_a_power_loss_keeps_what_was_synced_and_a_kill_keeps_all() -> None:
    file_system, _ = made(synced=b"kept", unsynced=b" lost")
    file_system.kill()
    assert file_system.files == {"/d/a": b"kept lost"}
    file_system.crash()
    assert file_system.files == {"/d/a": b"kept"}
    assert file_system.open_count == 0


def test_a_write_may_be_torn_and_any_subset_may_survive() -> None:
    file_system, _ = made(synced=b"kept", unsynced=b" torn")
    file_system.crash(torn=3)
    assert file_system.files == {"/d/a": b"kept to"}
    found = set()
    for seed in range(200):
        file_system, fd = made(synced=b"-", unsynced=b"ab")
        file_system.pwrite(fd, b"cd", 3)
        file_system.random.seed(seed)
        file_system.crash("random")
        found.add(bytes(file_system.files["/d/a"]))
    assert {b"-", b"-a", b"-ab", b"-\0\0c", b"-a\0cd", b"-abcd"} <= found


def test_a_name_that_was_not_synced_is_lost_and_a_rename_is_whole_or_not() -> None:
    for seed in range(20):
        file_system, fd = made(synced=b"x", unsynced=b"")
        file_system.rename("/d/a", "/d/b")
        file_system.fsync(fd)
        file_system.open("/d/c", write=True, create=True)
        file_system.random.seed(seed)
        file_system.crash("random")
        assert len(file_system.files.keys() & {"/d/a", "/d/b"}) == 1
    file_system, _ = made(synced=b"x", unsynced=b"")
    file_system.rename("/d/a", "/d/b")
    file_system.crash()
    assert file_system.files.keys() == {"/d/a"}


def test_after_a_failed_sync_a_good_one_does_not_bring_the_data_back() -> None:
    file_system, fd = made(synced=b"kept", unsynced=b" gone")
    file_system.fail_at(len(file_system.calls) + 1, errno.EIO)
    with pytest.raises(OSError, match="error"):
        file_system.fdatasync(fd)
    file_system.fdatasync(fd)
    assert file_system.files == {"/d/a": b"kept gone"}
    file_system.crash()
    assert file_system.files == {"/d/a": b"kept"}


def test_a_full_disk_takes_what_fits_and_then_nothing() -> None:
    file_system, fd = made(synced=b"1234", unsynced=b"")
    file_system.capacity = 6
    assert file_system.pwrite(fd, b"5678", 4) == 2
    with pytest.raises(OSError, match="space"):
        file_system.pwrite(fd, b"7", 6)
    with pytest.raises(OSError, match="space"):
        file_system.fallocate(fd, 7)
    assert file_system.pwrite(fd, b"overwrite", 0) == 6
    file_system.ftruncate(fd, 3)
    with pytest.raises(OSError, match="space"):
        file_system.fallocate(fd, 7)
    assert file_system.pread(fd, 100, 0) == b"ove\0\0\0"
    with pytest.raises(OSError, match="space"):
        write_all(file_system, fd, b"1234567", 0)
    file_system.ftruncate(fd, 2)
    assert file_system.pwrite(fd, b"more", 2) == 4


def test_a_crash_strikes_before_in_the_middle_of_or_after_a_call() -> None:
    file_system, fd = made(synced=b"", unsynced=b"")
    number = len(file_system.calls)
    file_system.crash_at(number + 1, "before")
    with pytest.raises(SimulatedCrash):
        file_system.pwrite(fd, b"12", 0)
    assert file_system.size(fd) == 0
    file_system.crash_at(number + 2, "after")
    with pytest.raises(SimulatedCrash):
        file_system.pwrite(fd, b"12", 0)
    assert file_system.size(fd) == 2
    file_system.crash_at(number + 3, "during")
    with pytest.raises(SimulatedCrash):
        file_system.pwrite(fd, bytes(1000), 2)
    assert 2 < file_system.size(fd) < 1002
    assert [call.operation for call in file_system.calls[-3:]] == ["write"] * 3


class OneByteAtATime(OsFileSystem):
    """Takes and gives as little as pread(2) and pwrite(2) allow."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return super().pread(fd, min(size, 1), offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().pwrite(fd, data[:1], offset)


def test_short_reads_and_writes_are_continued(tmp_path: Path) -> None:
    file_system = OneByteAtATime()
    fd = file_system.open(str(tmp_path / "a"), write=True, create=True)
    write_all(file_system, fd, b"hello", 2)
    assert read_all(file_system, fd, 100, 1) == b"\0hello"
    assert read_all(file_system, fd, 3, 2) == b"hel"
    file_system.close(fd)
