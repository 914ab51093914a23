"""IndexSet against a set of numbers."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.model import IndexRange
from titan.state.index_set import IndexSet, is_within, joined

SPANS = st.builds(
    lambda start, count, step: IndexRange(start, start + count, step),
    st.integers(0, 60), st.integers(1, 30), st.integers(1, 3),
)  # fmt: skip


@st.composite
def rising_ranges(draw: st.DrawFn) -> list[range]:
    """Ranges of an array: rising, with steps, sometimes touching, never interleaved."""
    ranges = []
    at = 0
    for _ in range(draw(st.integers(0, 4))):
        at += draw(st.integers(0, 5))
        step = draw(st.integers(1, 4))
        count = draw(st.integers(1, 6))
        each = range(at, at + (count - 1) * step + draw(st.integers(1, step)), step)
        ranges.append(each)
        at = each[-1] + 1
    return ranges


def check(real: IndexSet, dumb: set[int]) -> None:
    assert list(real) == sorted(dumb)
    assert len(real) == real.count == len(dumb)
    assert [each for each in range(-1, 90) if each in real] == sorted(dumb)
    for start in range(-1, 90):
        assert real.find_from(start) == min((each for each in dumb if each >= start), default=None)
    if dumb:
        assert real.first() == min(dumb)
    else:
        with pytest.raises(IndexError):
            real.first()
    spans = [(each[0], each[-1]) for each in real.ranges]
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    assert all(real.ranges), "no range is empty"


@given(ranges=rising_ranges(), data=st.data())
def test_an_index_set_does_what_a_set_of_the_same_numbers_does(
    ranges: list[range], data: Any
) -> None:
    real, dumb = IndexSet(ranges), {index for each in ranges for index in each}
    universe = sorted(dumb)
    # What was taken goes to a second one, as cancelled tasks do.
    taken, dumb_taken = IndexSet(), set[int]()
    for _ in range(data.draw(st.integers(0, 12))):
        act = data.draw(st.sampled_from(["remove", "add", "take", "remove first", "missing"]))
        if act == "remove" and dumb:
            index = data.draw(st.sampled_from(sorted(dumb)))
            real.remove(index)
            dumb.remove(index)
        elif act == "remove first" and dumb:
            index = real.first()
            real.remove(index)
            dumb.remove(index)
        elif act == "add":
            # Only what had been in it comes back.
            gone = [each for each in universe if each not in dumb and each not in dumb_taken]
            if gone:
                index = data.draw(st.sampled_from(gone))
                real.add(index)
                dumb.add(index)
        elif act == "take":
            spans = joined(data.draw(st.lists(SPANS, max_size=4)))
            part = real.take(spans)
            chosen = {each for each in dumb if any(s.start <= each < s.stop for s in spans)}
            assert chosen == {each for each in dumb if is_within(each, spans)}
            assert [index for each in part for index in each] == sorted(chosen)
            taken.add_ranges(part)
            dumb -= chosen
            dumb_taken |= chosen
        elif act == "missing":
            index = data.draw(st.integers(-2, 70))
            if index not in dumb:
                with pytest.raises(KeyError):
                    real.remove(index)
        check(real, dumb)
        check(taken, dumb_taken)


@given(
    lists=st.lists(
        st.lists(st.tuples(st.integers(0, 40), st.integers(1, 7), st.integers(1, 8)), max_size=5),
        max_size=4,
    )
)
def test_ranges_whose_spans_overlap_are_added_index_by_index(
    lists: list[list[tuple[int, int, int]]],
) -> None:
    """In any order and with any steps, as long as they share no index."""
    real, dumb = IndexSet(), set[int]()
    for added in lists:
        parts: list[range] = []
        for start, step, count in added:
            part = range(start, start + step * count, step)
            if dumb.isdisjoint(part):
                parts.append(part)
                dumb |= set(part)
        real.add_ranges(parts)
        check(real, dumb)


def test_two_ranges_in_steps_lie_apart_after_they_were_added() -> None:
    evens = IndexSet([range(0, 8, 2)])
    evens.add_ranges([range(5, 12, 2)])
    assert evens.ranges == [range(0, 6, 2), range(5, 6, 2), range(6, 8, 2), range(7, 13, 2)]


def test_a_million_indexes_are_one_range_until_one_of_them_goes() -> None:
    million = IndexSet([range(1_000_000)])
    assert million.ranges == [range(1_000_000)]
    million.remove(0)
    assert million.ranges == [range(1, 1_000_000)]
    million.remove(500_000)
    assert million.ranges == [range(1, 500_000), range(500_001, 1_000_000)]
    assert len(million) == 999_998


def test_indexes_that_come_back_in_order_are_one_range_again() -> None:
    some = IndexSet()
    for index in (4, 5, 6):
        some.add(index)
    assert some.ranges == [range(4, 7)]


def test_spans_that_meet_or_overlap_are_joined_in_rising_order() -> None:
    spans = [IndexRange(9, 12), IndexRange(0, 3), IndexRange(3, 5, 2), IndexRange(1, 2)]
    assert joined(spans) == [IndexRange(0, 5), IndexRange(9, 12)]
    assert joined([]) == []
