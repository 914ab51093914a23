"""Format version 1 of logs, snapshots and slots, kept for ever: these files must be read by every
later version.

They are rewritten only on purpose, with WAL_GOLDEN_REWRITE=1, and only while a version is not
released.
"""

import os
from pathlib import Path

import pytest

from tests.wal.builders import Disk, fake_disk, payloads
from tests.wal.fake_fs import FakeFileSystem
from wal import (
    FORMAT_VERSION,
    SLOT_VERSION,
    SNAPSHOT_VERSION,
    FileSystem,
    Position,
    Reader,
    Slot,
    open_snapshot,
    read_slots,
    write_slot,
    write_snapshot,
)

ALL = Path(__file__).parent / "golden"
GOLDEN = ALL / "version-1"
NAMES = ["00000000000000000001.wal", "00000000000000000008.wal", "durable"]

FRAMES = [
    [b"first"],
    [b"", b"\0" * 40, bytes(range(256))],
    ["Grüße".encode(), b"x" * 60],
    # The second segment.
    [b"after the rotation"],
    [b"the", b"last", b"frame"],
]
RECORDS = [payload for frame in FRAMES for payload in frame]
POSITION = Position(bytes.fromhex("38b4e652e44da7f2370d9e260e271365"), 10, 0x02197AFA)


SNAPSHOT = ALL / "snapshot-version-1" / "00000000000000000010.snapshot"
BLOCKS = [b"first", b"", b"\0" * 40, bytes(range(256))]
SLOT = ALL / "slot-version-1" / "archive.slot"


def write_the_snapshot(file_system: FileSystem, directory: str) -> None:
    write_snapshot(directory, POSITION, BLOCKS, file_system=file_system)


def write_the_slot(file_system: FileSystem, directory: str) -> None:
    write_slot(directory, "archive", POSITION, file_system=file_system)


OTHERS = {SNAPSHOT: write_the_snapshot, SLOT: write_the_slot}


def write_the_log() -> dict[str, bytes]:
    disk, file_system = fake_disk(segment_bytes=640)
    log = disk.open()
    for frame in FRAMES:
        for payload in frame:
            log.append(payload)
        assert log.flush()
    log.abandon()
    files = {os.path.basename(path): bytes(data) for path, data in file_system.files.items()}
    return {name: data for name, data in files.items() if name not in ("lock", "next.tmp")}


def test_the_golden_files_are_rewritten_only_on_purpose() -> None:
    assert FORMAT_VERSION == 1, "a new version gets a directory of its own beside the old one"
    if os.environ.get("WAL_GOLDEN_REWRITE") != "1":
        assert sorted(path.name for path in GOLDEN.iterdir()) == NAMES
        return
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, data in write_the_log().items():
        (GOLDEN / name).write_bytes(data)
    pytest.fail(f"rewritten: {GOLDEN}")


def test_the_same_records_are_written_as_the_same_bytes() -> None:
    files = write_the_log()
    assert sorted(files) == NAMES
    for name in NAMES:
        assert files[name] == (GOLDEN / name).read_bytes(), name


def test_the_golden_log_is_read_by_a_log_and_a_reader(disk: Disk) -> None:
    disk.file_system.make_directory(disk.directory)
    for name in NAMES:
        fd = disk.file_system.open(f"{disk.directory}/{name}", write=True, create=True)
        disk.file_system.pwrite(fd, (GOLDEN / name).read_bytes(), 0)
        disk.file_system.close(fd)
    with Reader(disk.directory, file_system=disk.file_system) as reader:
        assert payloads(reader.read()) == RECORDS
        assert reader.position == POSITION
    disk.segment_bytes = 640
    with disk.open() as log:
        assert payloads(log.records()) == RECORDS
        assert log.position == POSITION
        assert log.append(b"and on") == 11
    assert disk.replay() == [*RECORDS, b"and on"]
    assert disk.warnings == []


@pytest.mark.parametrize("path", OTHERS)
def test_the_same_snapshot_and_slot_are_written_as_the_same_bytes(path: Path) -> None:
    assert SNAPSHOT_VERSION == SLOT_VERSION == 1, "a new version gets a directory of its own"
    file_system = FakeFileSystem()
    OTHERS[path](file_system, "/data")
    ((name, content),) = file_system.files.items()
    assert name == f"/data/{path.name}"
    if os.environ.get("WAL_GOLDEN_REWRITE") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        pytest.fail(f"rewritten: {path}")
    assert bytes(content) == path.read_bytes()
    assert list(path.parent.iterdir()) == [path]


def test_the_golden_snapshot_and_slot_are_read() -> None:
    with open_snapshot(SNAPSHOT.parent, 10) as snapshot:
        assert snapshot.position == POSITION
        assert list(snapshot.blocks()) == BLOCKS
    (slot,) = read_slots(SLOT.parent, on_warning=pytest.fail)
    assert slot == Slot("archive", POSITION)
