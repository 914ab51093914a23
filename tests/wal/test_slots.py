"""Reader slots: a place is there as it was stored, or it is warned of."""

import errno
from itertools import product
from pathlib import Path
from random import Random

import pytest

from tests.wal.builders import LOSSES
from tests.wal.fake_fs import FakeFileSystem, SimulatedCrash
from wal import (
    FileSystem,
    OsFileSystem,
    Position,
    Slot,
    read_slots,
    remove_slot,
    write_slot,
)
from wal.layout import encode_position_header
from wal.slots import SLOT_MAGIC

DIRECTORY = "/data/readers"
POSITION = Position(bytes(range(16)), 7, 0x01020304)
LATER = POSITION._replace(lsn=9, chain=5)


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    if request.param == "fake":
        return FakeFileSystem(), DIRECTORY
    return OsFileSystem(), str(tmp_path / "readers")


def refuse(warning: str) -> None:
    pytest.fail(warning)


def test_slots_come_move_and_go(place: tuple[FileSystem, str]) -> None:
    file_system, directory = place
    assert read_slots(directory, on_warning=refuse, file_system=file_system) == []
    for name in ("replica-2", "archive", "x" * 64, "-"):
        write_slot(directory, name, POSITION, file_system=file_system)
    write_slot(directory, "archive", LATER, file_system=file_system)
    assert read_slots(directory, on_warning=refuse, file_system=file_system) == [
        Slot("-", POSITION),
        Slot("archive", LATER),
        Slot("replica-2", POSITION),
        Slot("x" * 64, POSITION),
    ]
    for name in ("archive", "archive", "x" * 64, "-"):
        remove_slot(directory, name, file_system=file_system)
    left = read_slots(directory, on_warning=refuse, file_system=file_system)
    assert left == [Slot("replica-2", POSITION)]


@pytest.mark.parametrize("name", ["", "A", "a.b", "../a", "a/b", "ä", "a\n", "x" * 65, "a_b"])
def test_a_name_that_might_be_another_file_is_refused(name: str) -> None:
    file_system = FakeFileSystem()
    with pytest.raises(ValueError, match="name"):
        write_slot(DIRECTORY, name, POSITION, file_system=file_system)
    with pytest.raises(ValueError, match="name"):
        remove_slot(DIRECTORY, name, file_system=file_system)
    assert not file_system.files


def test_a_slot_that_is_not_whole_is_left_out_and_warned_of() -> None:
    file_system = FakeFileSystem()
    write_slot(DIRECTORY, "good", POSITION, file_system=file_system)
    write_slot(DIRECTORY, "bad", POSITION, file_system=file_system)
    path = f"{DIRECTORY}/bad.slot"
    content = bytes(file_system.files[path])
    assert len(content) == 64
    changes = [content[:length] for length in range(64)]
    for bit in range(8 * 64):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        changes.append(bytes(changed))
    changes += [
        content + b"\0",
        b"Dear diary" * 20,
        encode_position_header(SLOT_MAGIC, 2, POSITION),
        encode_position_header(b"\x93WALSNP\n", 1, POSITION),
    ]
    for each in changes:
        file_system.put(path, each)
        warnings: list[str] = []
        slots = read_slots(DIRECTORY, on_warning=warnings.append, file_system=file_system)
        assert slots == [Slot("good", POSITION)]
        (warning,) = warnings
        assert path in warning
    assert file_system.open_count == 0


def test_other_files_are_no_slots() -> None:
    file_system = FakeFileSystem()
    for name in ("good.tmp", "README", ".slot", "Upper.slot", "a.slot.old"):
        file_system.put(f"{DIRECTORY}/{name}", b"whatever")
    assert read_slots(DIRECTORY, on_warning=refuse, file_system=file_system) == []


def test_a_fault_at_any_call_leaves_the_old_place_or_the_new_one() -> None:
    file_system = FakeFileSystem()
    write_slot(DIRECTORY, "a", POSITION, file_system=file_system)
    before = len(file_system.calls)
    write_slot(DIRECTORY, "a", LATER, file_system=file_system)
    calls = len(file_system.calls) - before
    assert calls == 6
    for number, end in product(range(1, calls + 1), (*LOSSES, None)):
        file_system = FakeFileSystem(Random(number))
        write_slot(DIRECTORY, "a", POSITION, file_system=file_system)
        if end is None:
            file_system.fail_at(before + number, errno.EIO, written=10)
        else:
            file_system.crash_at(before + number, "during")
        with pytest.raises((OSError, SimulatedCrash)):
            write_slot(DIRECTORY, "a", LATER, file_system=file_system)
        (end or FakeFileSystem.crash)(file_system)
        slots = read_slots(DIRECTORY, on_warning=refuse, file_system=file_system)
        assert slots in ([Slot("a", POSITION)], [Slot("a", LATER)])
        write_slot(DIRECTORY, "a", LATER, file_system=file_system)
        file_system.crash()
        slots = read_slots(DIRECTORY, on_warning=refuse, file_system=file_system)
        assert slots == [Slot("a", LATER)]
