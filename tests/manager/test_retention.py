"""What is kept and what goes: a plan by itself, and real directories."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wal
from tests.manager.logs import DAY_US, LogWriter
from titan.manager.retention import SPACING_BYTES_MAX, Kept, Limits, Retention, make_plan
from titan.snapshots import SnapshotUnusable, load_newest, load_snapshot
from titan.state import digest
from titan.state.snapshot import encode_state
from wal import Position, Slot, find_snapshots, list_segments, write_slot

MIB = 1 << 20
LOG_ID = bytes(16)


def plan(
    usable: list[Kept],
    slots: tuple[tuple[str, int], ...] = (),
    *,
    now_us: int = 100 * DAY_US,
    end: int | None = None,
    **limits: int,
) -> tuple[list[str], list[int], int]:
    """Records of one byte each: an LSN is an offset."""
    made = make_plan(
        usable,
        [Slot(name, Position(LOG_ID, lsn, 0)) for name, lsn in slots],
        lambda lsn: lsn,
        end if end is not None else (usable[-1].offset_bytes if usable else 0),
        now_us,
        Limits(**{"retain_us": 7 * DAY_US, "spacing_bytes_min": 1} | limits),
    )
    return [slot.name for slot in made.slots], made.snapshots, made.records_before_lsn


def kept(*places: tuple[int, int]) -> list[Kept]:
    """(LSN, age in days) at day 100."""
    return [Kept(lsn, (100 - days) * DAY_US, lsn) for lsn, days in places]


def test_the_log_is_cut_at_the_newest_snapshot_that_is_old_enough() -> None:
    usable = kept((10, 20), (20, 9), (30, 8), (40, 6), (50, 1), (60, 0))
    _, gone, before_lsn = plan(usable)
    assert before_lsn == 31
    assert {10, 20} <= set(gone)
    assert not {30, 50, 60} & set(gone)


def test_a_start_can_always_fall_back_to_the_second_newest() -> None:
    usable = kept((10, 30), (20, 20))
    assert plan(usable) == ([], [], 11)
    assert plan(kept((20, 20))) == ([], [], 0)
    assert plan([]) == ([], [], 0)
    assert plan(usable, retain_us=0)[2] == 11


def test_what_is_young_stays_whole() -> None:
    assert plan(kept((10, 3), (20, 2)))[2] == 0


def test_records_wait_for_the_slowest_reader() -> None:
    usable = kept((100, 20), (200, 9), (300, 0), (400, 0))
    assert plan(usable)[2] == 201
    # With the snapshot at or before it, from which it makes the state that it goes on from.
    assert plan(usable, (("history", 150), ("backup", 350))) == ([], [], 101)
    assert plan(usable, (("history", 200),))[2] == 201
    assert plan(usable, (("history", 0),)) == ([], [], 0)


def test_a_reader_that_lags_too_far_behind_is_dropped() -> None:
    usable = kept((100, 20), (200, 9), (300, 0), (400, 0))
    slots = (("history", 150), ("backup", 350))
    assert plan(usable, slots, end=450, reader_lag_max_bytes=299) == (["history"], [100], 201)
    assert plan(usable, slots, end=450, reader_lag_max_bytes=300)[0] == []


@given(
    st.lists(st.integers(1, 400 * MIB), min_size=2, max_size=60),
    st.integers(0, 59),
    st.integers(0, 60 * MIB),
)
def test_to_look_back_costs_half_of_how_far_and_a_gib_at_most(
    steps: list[int], old: int, tail: int
) -> None:
    places, offset = [], 0
    for number, step in enumerate(steps):
        offset += step
        places.append((offset, 30 if number <= old else 1))
    usable = kept(*places)
    end = offset + tail
    dropped_at_once = set(plan(usable, end=end, spacing_bytes_min=16 * MIB)[1])
    left = [each for each in usable if each.lsn not in dropped_at_once]
    assert left[-2:] == usable[-2:]
    for older, younger in pairwise(left):
        between = [each for each in usable if older.lsn < each.lsn < younger.lsn]
        allowed = min(max((end - older.lsn) // 2, 16 * MIB), SPACING_BYTES_MAX)
        assert not between or younger.lsn - older.lsn <= allowed
    # Done again it is done.
    assert plan(left, end=end, spacing_bytes_min=16 * MIB)[1] == []


def test_a_directory_is_tidied_and_every_kept_moment_can_be_made_again(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, segment_bytes=4096)
    digests = {}
    for turn in range(60):
        writer.turn()
        digests[writer.state.lsn] = digest(writer.state)
        if turn % 5 == 4:
            writer.take_snapshot()
        writer.sleep_us(DAY_US // 4)
    retention = Retention(tmp_path, Limits(retain_us=2 * DAY_US, spacing_bytes_min=1))
    writer.tidy(retention)
    first_lsn = list_segments(tmp_path / "wal")[0].first_lsn
    assert first_lsn > 1
    snapshots = find_snapshots(tmp_path / "snapshots")
    oldest = load_snapshot(tmp_path, snapshots[0])
    assert oldest.state.time_us <= writer.now_us - 2 * DAY_US
    assert first_lsn <= oldest.position.lsn + 1
    seen = 0
    with wal.Reader(tmp_path / "wal", position=oldest.position) as reader:
        for record in reader:
            writer.apply(oldest.state, record)
            if oldest.state.lsn in digests:
                assert digest(oldest.state) == digests[oldest.state.lsn]
                seen += 1
    assert seen > 5
    assert digest(writer.reopen().state) == digests[max(digests)]


@pytest.mark.parametrize("how", ["cut", "flipped", "newer"])
def test_an_unusable_snapshot_counts_for_nothing(tmp_path: Path, how: str) -> None:
    writer = LogWriter(tmp_path, segment_bytes=4096)
    for _ in range(4):
        writer.turn()
        writer.take_snapshot()
        writer.sleep_us(30 * DAY_US)
    lsns = find_snapshots(tmp_path / "snapshots")
    path = tmp_path / "snapshots" / f"{lsns[-1]:020d}.snapshot"
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[-40:]
    elif how == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data[8] = 9
    path.write_bytes(data)
    warnings: list[str] = []
    loaded = load_newest(tmp_path, lambda error: warnings.append(str(error)))
    assert loaded is not None
    assert loaded.position.lsn == lsns[-2]
    assert len(warnings) == 1
    before = digest(writer.state)
    found = writer.reopen()
    assert found.unusable == [lsns[-1]]
    assert found.snapshot_lsn == lsns[-2]
    assert digest(found.state) == before
    retention = Retention(tmp_path, Limits(retain_us=0, spacing_bytes_min=1))
    retention.note_unusable(lsns[-1])
    writer.tidy(retention)
    assert lsns[-3] in find_snapshots(tmp_path / "snapshots"), "the second newest that can be used"
    # It goes once two that can be used are newer.
    for newer in (0, 1):
        writer.turn()
        # The first one after it is made from the one before it, the next from a good one.
        writer.take_snapshot(unusable=1 - newer)
    writer.tidy(retention)
    assert lsns[-1] not in find_snapshots(tmp_path / "snapshots")


def test_a_snapshot_of_a_later_format_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, segment_bytes=4096)
    writer.turn()
    with wal.Reader(tmp_path / "wal") as reader:
        list(reader)
        position = reader.position
    kind, fields = msgpack.unpackb(next(iter(encode_state(writer.state, "9.9"))))
    head = msgpack.packb([kind, [7, *fields[1:]]])
    wal.write_snapshot(tmp_path / "snapshots", position, [head])
    with pytest.raises(SnapshotUnusable, match="format version 7 is newer than 3") as caught:
        load_snapshot(tmp_path, position.lsn)
    assert isinstance(caught.value.__cause__, wal.NewerVersion)
    assert writer.reopen().unusable == [position.lsn]


def test_nothing_is_removed_because_of_a_snapshot_that_is_rotten_inside(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, segment_bytes=4096)
    for _ in range(5):
        for _ in range(8):
            writer.turn()
        writer.take_snapshot()
        writer.sleep_us(DAY_US)
    lsns = find_snapshots(tmp_path / "snapshots")
    writer.sleep_us(2 * DAY_US)
    path = tmp_path / "snapshots" / f"{lsns[-2]:020d}.snapshot"
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    retention = Retention(tmp_path, Limits(retain_us=0, spacing_bytes_min=1))
    assert writer.tidy(retention).records_before_lsn == lsns[-3] + 1
    # The newest may rot as well.
    path = tmp_path / "snapshots" / f"{lsns[-1]:020d}.snapshot"
    path.write_bytes(path.read_bytes()[:-1])
    assert writer.reopen().snapshot_lsn == lsns[-3]


def test_a_slot_keeps_the_log_and_one_that_lies_elsewhere_refuses_the_start(
    tmp_path: Path,
) -> None:
    writer = LogWriter(tmp_path, segment_bytes=4096)
    writer.turn()
    with wal.Reader(tmp_path / "wal") as reader:
        list(reader)
        position = reader.position
    write_slot(tmp_path / "readers", "history", position)
    for _ in range(30):
        writer.turn()
    writer.take_snapshot()
    for _ in range(3):
        writer.turn()
    writer.take_snapshot()
    writer.sleep_us(30 * DAY_US)
    retention = Retention(tmp_path, Limits())
    writer.tidy(retention)
    assert list_segments(tmp_path / "wal")[0].first_lsn <= position.lsn + 1
    with wal.Reader(tmp_path / "wal", position=position) as reader:
        assert next(iter(reader)).lsn == position.lsn + 1
    wal.remove_slot(tmp_path / "readers", "history")
    writer.tidy(retention)
    assert list_segments(tmp_path / "wal")[0].first_lsn > position.lsn + 1
    end = writer.journal_position()
    write_slot(tmp_path / "readers", "history", end._replace(chain=end.chain ^ 1))
    with pytest.raises(Exception, match="not usable and was not touched"):
        writer.reopen()
