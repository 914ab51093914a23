"""When an output file is cut and looked at, as a table and as a writer that never stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.worker.host import output_cap
from titan.worker.host.output_cap import Size

BLOCK = 4096
K = 1 << 10
M = 1 << 20


@pytest.mark.parametrize(
    ("length", "allocated", "cap", "cut"),
    [
        # Below the cap, at it, and without one nothing is left out.
        (M, M, 2 * M, None),
        (M, M, M, None),
        (50 * M, 50 * M, 0, None),
        # A quarter of the cap stays on both sides, in whole blocks.
        (M + BLOCK, M + BLOCK, M, (256 * K, 768 * K + BLOCK)),
        (M + 1, M + BLOCK, M, (256 * K, 768 * K)),
        # What was left out before takes nothing; what is cut begins where it began.
        (100 * M, M, M, None),
        (100 * M, M + BLOCK, M, (256 * K, 100 * M - 256 * K)),
        # Allocated ahead, written sparsely: only content counts.
        (M, 5 * M, M, None),
        # Blocks larger than the quarter: at least one stays.
        (256 * K, 256 * K, 64 * K, (16 * K, 240 * K)),
    ],
)
def test_what_is_left_out(
    length: int, allocated: int, cap: int, cut: tuple[int, int] | None
) -> None:
    assert output_cap.find_cut(Size(length, allocated), cap, BLOCK) == cut


def test_a_block_larger_than_a_quarter_of_the_cap_leaves_a_block_at_the_beginning() -> None:
    assert output_cap.find_cut(Size(M, M), 64 * K, 128 * K) == (128 * K, 896 * K)


@given(
    st.lists(st.integers(0, 3 * M), min_size=1, max_size=50),
    st.integers(64 * K, 2 * M),
    st.sampled_from([4096, 16384]),
)
def test_a_file_that_is_cut_at_each_look_stays_below_the_cap_and_keeps_both_ends(
    writes: list[int], cap: int, block: int
) -> None:
    length = 0
    hole = (0, 0)
    for written in writes:
        length += written
        allocated = -(-length // block) * block - (hole[1] - hole[0])
        cut = output_cap.find_cut(Size(length, allocated), cap, block)
        if cut is None:
            assert min(length, allocated) <= cap
            continue
        assert cut[0] % block == cut[1] % block == 0
        # It only ever grows, and begins where it began.
        assert hole == (0, 0) or (cut[0] == hole[0] and cut[1] >= hole[1])
        hole = cut
        left = length - (hole[1] - hole[0])
        assert cut[0] >= min(cap // 4 - block, block)
        assert length - cut[1] >= cap // 4
        assert left <= cap // 2 + 2 * block


def test_a_quiet_file_is_looked_at_ever_more_seldom_up_to_a_limit() -> None:
    seconds = output_cap.FIRST_LOOK_SECONDS
    seen = []
    for _ in range(6):
        seconds = output_cap.next_look_seconds(seconds, M, 0, seconds)
        seen.append(seconds)
    assert seen == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("room", "grown", "elapsed", "seconds"),
    [
        # Full in three seconds at this pace.
        (300 * M, 100 * M, 1.0, 3.0),
        (300 * M, 50 * M, 0.5, 3.0),
        # A trickle; as fast as it goes; over already.
        (300 * M, 10, 5.0, output_cap.LOOK_SECONDS_MAX),
        (512 * M, 2048 * M, 0.1, output_cap.LOOK_SECONDS_MIN),
        (-M, 100 * M, 1.0, output_cap.LOOK_SECONDS_MIN),
    ],
)
def test_a_growing_file_is_looked_at_before_it_is_over(
    room: int, grown: int, elapsed: float, seconds: float
) -> None:
    assert output_cap.next_look_seconds(1.0, room, grown, elapsed) == pytest.approx(seconds)


def test_what_ran_too_briefly_to_write_so_much_needs_no_look() -> None:
    assert not output_cap.may_be_over(1 << 30, 0, 0.1)
    assert output_cap.may_be_over(1 << 30, 0, 0.2)
    assert output_cap.may_be_over(1 << 30, 1 << 30, 0.001)
