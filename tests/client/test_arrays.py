"""Array SPECs, against a dumb version that lists every index."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from titan.client.arrays import format_array, parse_array, parse_array_and_limit, parse_indexes
from titan.model import ARRAY_TASKS_MAX, IndexRange


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("0", [(0, 1, 1)]),
        ("0-99", [(0, 100, 1)]),
        ("0-99:2", [(0, 99, 2)]),
        ("1,5,7-9", [(1, 2, 1), (5, 6, 1), (7, 10, 1)]),
        (" 7-9 , 1 ", [(1, 2, 1), (7, 10, 1)]),
        ("5-5", [(5, 6, 1)]),
        ("0-10:20", [(0, 1, 1)]),
        ("0-8:2,1-9:2", [(0, 9, 2), (1, 10, 2)]),
        ("0-9999999", [(0, 10_000_000, 1)]),
    ],
)
def test_a_spec_becomes_ranges(text: str, ranges: list[tuple[int, int, int]]) -> None:
    assert list(parse_array(text)) == [IndexRange(*part) for part in ranges]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write it as 0-99"),
        ("a", "write it as 0-99"),
        ("1-", "write it as 0-99"),
        ("-5", "write it as 0-99"),
        ("1,,2", "write it as 0-99"),
        ("0-99%5", "write it as 0-99"),
        ("0x10", "write it as 0-99"),
        ("٣", "write it as 0-99"),
        ("9-0", "write 0-9"),
        ("0-9:0", "step of 0"),
        ("0-10000000", "10,000,000 is the most"),
        ("9999999999999999", "too high"),
        ("1,1", "index 1 twice"),
        ("0-9,5", "index 5 twice"),
        ("0-100:6,4-100:4", "index 12 twice"),
        (",".join(["1"] * 10_001), "10,000 is the most"),
    ],
)
def test_what_is_no_spec_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_array(text)


_PARTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=4
)


@given(_PARTS)
def test_a_spec_names_what_the_dumb_version_lists(parts: list[tuple[int, int, int]]) -> None:
    listed: list[int] = []
    for first, length, step in parts:
        listed += range(first, first + length + 1, step)
    text = ",".join(f"{first}-{first + length}:{step}" for first, length, step in parts)
    if len(set(listed)) < len(listed):
        with pytest.raises(ValueError, match="twice"):
            parse_array(text)
        return
    ranges = parse_array(text)
    assert sorted(index for part in ranges for index in part.indexes) == sorted(listed)
    written = format_array(ranges)
    assert written is not None
    assert parse_array(written) == ranges


@given(st.sets(st.integers(0, 200), min_size=1))
def test_any_indexes_become_ranges_of_just_them(indexes: set[int]) -> None:
    ranges = parse_indexes(indexes)
    assert sorted(index for part in ranges for index in part.indexes) == sorted(indexes)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(-5, 5))
def test_a_range_becomes_one_range(start: int, stop: int, step: int) -> None:
    assume(step)
    given_range = range(start, stop, step)
    if not given_range:
        with pytest.raises(ValueError, match="no tasks"):
            parse_indexes(given_range)
        return
    (part,) = parse_indexes(given_range)
    assert list(part.indexes) == sorted(given_range)


def test_ten_million_tasks_are_one_range_and_take_no_time() -> None:
    assert parse_indexes(range(ARRAY_TASKS_MAX)) == (IndexRange(0, ARRAY_TASKS_MAX, 1),)


def test_a_spec_may_end_with_how_many_may_be_under_way_at_once() -> None:
    assert parse_array_and_limit("0-999%50") == ((IndexRange(0, 1000, 1),), 50)
    assert parse_array_and_limit("1,5 % 1") == (parse_array("1,5"), 1)
    assert parse_array_and_limit("0-9") == ((IndexRange(0, 10, 1),), 0)


@pytest.mark.parametrize("text", ["0-9%0", "0-9%", "0-9%-1", "0-9%5%5", "0-9%1.5", "%5", "0-9%٣"])
def test_a_limit_is_a_number_of_tasks(text: str) -> None:
    with pytest.raises(ValueError, match=r"no task would ever start|write it as|no array"):
        parse_array_and_limit(text)


def test_no_indexes_are_no_array() -> None:
    with pytest.raises(ValueError, match="no tasks"):
        parse_indexes([])


def test_a_plain_job_has_no_spec() -> None:
    assert format_array([]) is None
