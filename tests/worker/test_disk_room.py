"""When a disk is nearly full, and when no longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.worker.agent.disk_room import (
    DEFAULT_MINIMUM,
    DiskMinimum,
    DiskRoom,
    DiskUse,
    parse_minimum,
)

GIB = 1 << 30


def use(free: int, *, total: int = 100 * GIB, inodes: int = 0, inodes_free: int = 0) -> DiskUse:
    return DiskUse(total, free, inodes, inodes_free)


@pytest.mark.parametrize(
    ("total", "least"), [(100 * GIB, 5 * GIB), (200 * GIB, 10 * GIB), (4_000 * GIB, 10 * GIB)]
)
def test_the_default_is_5_percent_and_at_most_10_gib(total: int, least: int) -> None:
    assert DEFAULT_MINIMUM.of(total) == least


@pytest.mark.parametrize(
    ("text", "minimum"),
    [
        ("5%", DiskMinimum(per_mille=50)),
        ("0.5%", DiskMinimum(per_mille=5)),
        ("20GiB", DiskMinimum(size_bytes=20 * GIB)),
        ("0", DiskMinimum()),
        ("0%", DiskMinimum()),
    ],
)
def test_it_is_written_as_a_size_or_a_share(text: str, minimum: DiskMinimum) -> None:
    assert parse_minimum(text) == minimum


@pytest.mark.parametrize("text", ["100%", "-1%", "x%", "%", "5", "inf%", "nan%", "1e400%"])
def test_anything_else_is_told_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|add a unit"):
        parse_minimum(text)


def test_below_the_minimum_it_is_nearly_full_until_a_fifth_more_is_free() -> None:
    room = DiskRoom(DEFAULT_MINIMUM, "/out")
    assert room.judge(use(5 * GIB)) == ""
    sentence = room.judge(use(5 * GIB - 1))
    assert sentence == (
        "its disk is nearly full: 5G of 100G are free under /out, less than --disk-free-min 5G"
    )
    assert room.judge(use(GIB)) == sentence, "the same words while it is so"
    assert room.judge(use(6 * GIB - 1)) == sentence
    assert room.judge(use(6 * GIB)) == ""
    assert room.judge(use(5 * GIB)) == ""


def test_inodes_count_too_where_there_is_a_number_of_them() -> None:
    room = DiskRoom(DEFAULT_MINIMUM, "/out")
    assert room.judge(use(50 * GIB, inodes=1000, inodes_free=10)) == ""
    assert "9 of 1000" in room.judge(use(50 * GIB, inodes=1000, inodes_free=9))
    assert room.judge(use(50 * GIB, inodes=1000, inodes_free=11))
    assert "nearly full" in room.judge(use(GIB, inodes=1000, inodes_free=0))
    assert "inodes" in room.judge(use(50 * GIB, inodes=1000, inodes_free=0))
    assert room.judge(use(50 * GIB, inodes=1000, inodes_free=12)) == ""
    assert room.judge(use(50 * GIB)) == ""


def test_0_turns_it_off() -> None:
    room = DiskRoom(DiskMinimum(), "/out")
    assert room.judge(use(0, inodes=1000, inodes_free=0)) == ""


@given(frees=st.lists(st.integers(0, 20), max_size=20), minimum=st.integers(0, 10))
def test_it_follows_the_two_thresholds(frees: list[int], minimum: int) -> None:
    room = DiskRoom(DiskMinimum(size_bytes=minimum * 5), "/out")
    is_short = False
    for free in frees:
        is_short = free * 5 < minimum * (6 if is_short else 5)
        assert bool(room.judge(use(free * 5))) == is_short
