"""Snapshots: what goes in comes out, or an error; and no fault leaves one that is not whole."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.builders import LOSSES
from tests.wal.fake_fs import FakeFileSystem, Moment, SimulatedCrash
from wal import (
    BLOCK_BYTES_MAX,
    Damaged,
    FileSystem,
    LogFailed,
    NewerVersion,
    NotALog,
    OsFileSystem,
    Position,
    check_snapshot,
    filesystem,
    find_snapshots,
    first_block,
    open_snapshot,
    remove_snapshot,
    sync_snapshots,
    write_snapshot,
)
from wal.layout import encode_position_header
from wal.snapshot import SNAPSHOT_MAGIC

DIRECTORY = "/data/snapshots"
POSITION = Position(bytes(range(16)), 7, 0x01020304)
PATH = f"{DIRECTORY}/00000000000000000007.snapshot"
BLOCKS = [b"first", b"", b"\0" * 30, bytes(range(50))]


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    if request.param == "fake":
        return FakeFileSystem(), DIRECTORY
    return OsFileSystem(), str(tmp_path / "a" / "snapshots")


def read(file_system: FileSystem, lsn: int = 7, directory: str = DIRECTORY) -> list[bytes]:
    with open_snapshot(directory, lsn, file_system=file_system) as snapshot:
        blocks = list(snapshot.blocks())
        assert list(snapshot.blocks()) == blocks  # As often as one likes.
        return blocks


def written(blocks: list[bytes] = BLOCKS) -> tuple[FakeFileSystem, bytes]:
    file_system = FakeFileSystem()
    write_snapshot(DIRECTORY, POSITION, blocks, file_system=file_system)
    return file_system, bytes(file_system.files[PATH])


def test_a_snapshot_comes_back_as_it_was_written(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    assert find_snapshots(directory, file_system=file_system) == []
    for lsn, blocks in ((7, BLOCKS), (0, []), (123456789012, [b"x"])):
        position = POSITION._replace(lsn=lsn)
        size = write_snapshot(directory, position, iter(blocks), file_system=file_system)
        with open_snapshot(directory, lsn, file_system=file_system) as snapshot:
            assert snapshot.position == position
            assert snapshot.size_bytes == size
        assert read(file_system, lsn, directory) == blocks
        assert check_snapshot(directory, lsn, file_system=file_system) == position
    sync_snapshots(directory, file_system=file_system)
    assert find_snapshots(directory, file_system=file_system) == [0, 7, 123456789012]
    remove_snapshot(directory, 7, file_system=file_system)
    assert find_snapshots(directory, file_system=file_system) == [0, 123456789012]
    with pytest.raises(FileNotFoundError):
        open_snapshot(directory, 7, file_system=file_system)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_blocks_come_back(blocks: list[bytes]) -> None:
    file_system, content = written(blocks)
    assert read(file_system) == blocks
    assert len(content) == 64 + 16 + sum(8 + len(block) for block in blocks)


def test_the_first_block_is_found_in_the_first_bytes() -> None:
    disk = FakeFileSystem()
    write_snapshot(DIRECTORY, POSITION, [b"the head", b"more"], file_system=disk)
    data = bytes(disk.files[PATH])
    assert first_block(data) == b"the head"
    # Of a piece there is what is in it; and a file that ends before has none.
    assert first_block(data[:75]) == b"the"
    assert first_block(data[:60]) == first_block(b"") == b""


def test_other_names_are_no_snapshots(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    write_snapshot(directory, POSITION, BLOCKS, file_system=file_system)
    for name in ("snapshot.tmp", "7.snapshot", "lock", "00000000000000000008.snapshot.old"):
        file_system.close(file_system.open(f"{directory}/{name}", write=True, create=True))
    assert find_snapshots(directory, file_system=file_system) == [7]


def test_a_snapshot_takes_the_place_of_an_earlier_one_at_its_lsn() -> None:
    file_system, content = written()
    file_system.put(PATH, content[:-1])
    write_snapshot(DIRECTORY, POSITION, [b"again"], file_system=file_system)
    file_system.crash()
    assert read(file_system) == [b"again"]


def test_a_block_of_16_mib_is_taken_and_a_larger_one_is_not() -> None:
    file_system = FakeFileSystem()
    largest = bytes(BLOCK_BYTES_MAX)
    write_snapshot(DIRECTORY, POSITION, [largest], file_system=file_system)
    assert read(file_system) == [largest]
    with pytest.raises(ValueError, match="is over"):
        write_snapshot(DIRECTORY, POSITION, [b"", largest + b"!"], file_system=file_system)
    assert list(file_system.files) == [PATH]


def test_blocks_are_written_as_they_come_and_synced_every_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filesystem, "UNSYNCED_BYTES_MAX", 1000)
    file_system = FakeFileSystem()
    sizes = []

    def blocks() -> Iterator[bytes]:
        for _ in range(10):
            sizes.append(file_system.used)
            yield bytes(392)

    write_snapshot(DIRECTORY, POSITION, blocks(), file_system=file_system)
    assert sizes == [64 + 400 * number for number in range(10)]
    assert [call.operation for call in file_system.calls].count("fdatasync") == 3


def check_refused(file_system: FakeFileSystem) -> None:
    with pytest.raises((Damaged, NotALog), match=PATH) as caught:
        read(file_system)
    with pytest.raises(type(caught.value)):
        check_snapshot(DIRECTORY, 7, file_system=file_system)
    assert file_system.open_count == 0


def test_a_snapshot_cut_at_any_byte_or_with_bytes_behind_it_is_refused() -> None:
    file_system, content = written()
    for changed in (*(content[:length] for length in range(len(content))), content + b"\0"):
        file_system.put(PATH, changed)
        check_refused(file_system)


def test_a_snapshot_with_any_flipped_bit_is_refused() -> None:
    file_system, content = written()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file_system.put(PATH, bytes(changed))
        with pytest.raises(Damaged):
            read(file_system)


def test_what_was_handed_out_before_the_damage_is_sound() -> None:
    file_system, content = written()
    changed = bytearray(content)
    changed[content.index(BLOCKS[3]) + 1] ^= 1
    file_system.put(PATH, bytes(changed))
    seen: list[bytes] = []
    with open_snapshot(DIRECTORY, 7, file_system=file_system) as snapshot:
        with pytest.raises(Damaged) as caught:
            seen.extend(snapshot.blocks())
        assert caught.value.offset == content.index(BLOCKS[3]) - 8
    assert seen == BLOCKS[:3]


def test_blocks_that_are_missing_swapped_or_of_another_snapshot_are_refused() -> None:
    blocks = [b"aaaa", b"bbbb", b"cccc"]
    file_system, content = written(blocks)
    head, end, size = content[:64], content[-16:], 12
    parts = [content[64 + size * index :][:size] for index in range(3)]
    other, other_content = written([*blocks[:2], b"dddd"])
    assert read(other)
    for changed in (
        head + parts[1] + parts[0] + parts[2] + end,
        head + parts[0] + parts[1] + end,
        head + parts[1] + parts[2] + end,
        head + parts[0] + parts[0] + parts[1] + parts[2] + end,
        head + end,
        head + parts[0] + parts[1] + other_content[64 + 2 * size :][:size] + end,
        encode_position_header(SNAPSHOT_MAGIC, 1, POSITION._replace(chain=9)) + content[64:],
    ):
        file_system.put(PATH, changed)
        check_refused(file_system)


def test_the_end_block_says_how_many_there_are() -> None:
    file_system, content = written([])
    for count, is_right in ((0, True), (1, False)):
        body = count.to_bytes(8, "little")
        crc = zlib.crc32(body, zlib.crc32(b"\xff" * 4, int.from_bytes(content[60:64], "little")))
        file_system.put(PATH, content[:68] + crc.to_bytes(4, "little") + body)
        if is_right:
            assert read(file_system) == []
        else:
            check_refused(file_system)


def test_a_wrong_file_a_newer_version_and_damage_are_told_apart() -> None:
    file_system, content = written()
    for other in (b"", b"Dear diary", b"Dear diary" * 20, content[1:], bytes(100)):
        file_system.put(PATH, other)
        with pytest.raises(Damaged if not other else NotALog) as caught:
            open_snapshot(DIRECTORY, 7, file_system=file_system)
        if other:
            assert "not a snapshot" in str(caught.value)
    newer = encode_position_header(SNAPSHOT_MAGIC, 2, POSITION)
    file_system.put(PATH, newer + b"who knows")
    with pytest.raises(NewerVersion) as newer_version:
        open_snapshot(DIRECTORY, 7, file_system=file_system)
    assert (newer_version.value.found, newer_version.value.expected) == (2, 1)
    file_system.put(PATH.replace("7", "8"), content)
    with pytest.raises(Damaged):
        open_snapshot(DIRECTORY, 8, file_system=file_system)
    assert file_system.open_count == 0


# Faults.


def make_two(file_system: FakeFileSystem) -> None:
    """Make a second snapshot, of several blocks and in several steps, and remove the first."""
    later = POSITION._replace(lsn=9)
    write_snapshot(DIRECTORY, later, BLOCKS, file_system=file_system)
    remove_snapshot(DIRECTORY, 7, file_system=file_system)


def calls_of_a_good_run() -> int:
    file_system, _ = written()
    before = len(file_system.calls)
    make_two(file_system)
    return len(file_system.calls) - before


CALLS = range(1, calls_of_a_good_run() + 1)


def check_whole(file_system: FakeFileSystem) -> list[int]:
    """There is at least one, and all that have a snapshot's name are whole."""
    found = find_snapshots(DIRECTORY, file_system=file_system)
    assert found in ([7], [7, 9], [9])
    for lsn in found:
        assert check_snapshot(DIRECTORY, lsn, file_system=file_system).lsn == lsn
        assert read(file_system, lsn) == BLOCKS
    return found


@pytest.fixture(params=[0, 1 << 20])
def unsynced_bytes_max(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without syncs on the way; calls beyond the last one do no harm."""
    monkeypatch.setattr(filesystem, "UNSYNCED_BYTES_MAX", request.param)


@pytest.mark.usefixtures("unsynced_bytes_max")
@pytest.mark.parametrize("end", [*LOSSES, FakeFileSystem.kill])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_crash_at_any_call_leaves_whole_snapshots(
    moment: Moment, end: Callable[[FakeFileSystem], None]
) -> None:
    for number in CALLS:
        file_system, _ = written()
        file_system.random = Random(number)
        file_system.crash_at(len(file_system.calls) + number, moment)
        with pytest.raises(SimulatedCrash):
            make_two(file_system)
        end(file_system)
        check_whole(file_system)
        # And the next one is made over what is left.
        write_snapshot(DIRECTORY, POSITION._replace(lsn=9), BLOCKS, file_system=file_system)
        file_system.crash("none")
        assert 9 in check_whole(file_system)


@pytest.mark.usefixtures("unsynced_bytes_max")
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("written_bytes", [0, 3])
def test_a_call_that_fails_leaves_whole_snapshots_and_nothing_else(
    error: int, written_bytes: int
) -> None:
    for number in CALLS:
        file_system, _ = written()
        file_system.fail_at(len(file_system.calls) + number, error, written=written_bytes)
        with pytest.raises((OSError, LogFailed), match=r"error|space"):
            make_two(file_system)
        assert file_system.open_count == 0
        found = check_whole(file_system)
        assert len(file_system.files) == len(found)
        file_system.crash("none")
        check_whole(file_system)


def test_a_disk_that_fills_up_gets_its_space_back() -> None:
    file_system, content = written()
    file_system.capacity = len(content) + 100
    with pytest.raises(OSError, match="space"):
        make_two(file_system)
    assert file_system.used == len(content)
    assert check_whole(file_system) == [7]


def test_blocks_that_raise_leave_nothing() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"one"
        raise KeyError("two")

    file_system = FakeFileSystem()
    with pytest.raises(KeyError):
        write_snapshot(DIRECTORY, POSITION, blocks(), file_system=file_system)
    assert not file_system.files
    assert file_system.open_count == 0


def test_the_name_of_the_snapshots_directory_is_synced_with_what_is_in_it() -> None:
    """Its maker may have been killed before, and segments go because of what is in it."""
    file_system, _ = written()
    file_system.calls.clear()
    sync_snapshots(DIRECTORY, file_system=file_system)
    parent = DIRECTORY.rpartition("/")[0]
    assert [call[1:] for call in file_system.calls] == [
        ("fsync_directory", parent), ("fsync_directory", DIRECTORY),
    ]  # fmt: skip


def test_a_snapshot_of_a_writer_that_was_killed_stays_once_it_is_synced() -> None:
    for is_synced in (False, True):
        file_system, _ = written()
        last_sync = CALLS[-1] - 3  # Then comes the removal: two syncs and an unlink.
        file_system.crash_at(len(file_system.calls) + last_sync, "before")
        with pytest.raises(SimulatedCrash):
            make_two(file_system)
        file_system.kill()
        assert check_whole(file_system) == [7, 9]
        if is_synced:
            sync_snapshots(DIRECTORY, file_system=file_system)
        file_system.crash("none")
        assert check_whole(file_system) == ([7, 9] if is_synced else [7])
