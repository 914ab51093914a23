"""Resources: integers, canonical, and their arithmetic against plain dictionaries."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.model import (
    PLAIN,
    Execution,
    IndexRange,
    Resources,
    ScriptSource,
    execution_fields,
    execution_of,
    named_resources,
    task_name,
)

amounts = st.integers(0, 5)
resources = st.builds(
    lambda cpus, memory, named: Resources(cpus, memory, named_resources(named.items())),
    amounts,
    amounts,
    st.dictionaries(st.sampled_from(["gpu", "licence", "tape"]), amounts),
)


def as_counter(each: Resources) -> Counter[str]:
    return Counter({"cpus": each.cpus_milli, "memory": each.memory_bytes, **dict(each.named)})


@given(resources, resources)
def test_sum_and_difference_are_those_of_each_part(one: Resources, other: Resources) -> None:
    left, right = as_counter(one), as_counter(other)
    names = {*left, *right}
    total, rest = as_counter(one.plus(other)), as_counter(one.minus(other))
    assert {name: total[name] for name in names} == {
        name: left[name] + right[name] for name in names
    }
    assert {name: rest[name] for name in names} == {
        name: left[name] - right[name] for name in names
    }
    assert one.plus(other).minus(other) == one
    assert one.minus(one) == Resources()


@given(resources, resources)
def test_something_fits_when_each_part_does(one: Resources, room: Resources) -> None:
    need, have = as_counter(one), as_counter(room)
    assert one.fits_in(room) == all(need[name] <= have[name] for name in need)


@given(st.dictionaries(st.text(max_size=2), st.integers(-2, 2)))
def test_named_resources_are_sorted_and_hold_no_zeros(counts: dict[str, int]) -> None:
    named = named_resources(counts.items())
    assert list(named) == sorted(named)
    assert dict(named) == {name: count for name, count in counts.items() if count}


def test_an_index_range_is_a_range() -> None:
    assert IndexRange(0, 10, 3).indexes == range(0, 10, 3)
    assert IndexRange(4, 6).indexes == range(4, 6)


def test_a_task_is_named_by_its_index_only_in_an_array() -> None:
    assert task_name(42, 7, is_array=True) == "42.7"
    assert task_name(42, 0, is_array=False) == "42"


@pytest.mark.parametrize(
    ("execution", "fields"),
    [
        (PLAIN, ()),
        (Execution(umask=0), (0,)),
        (Execution(interpreter=(b"sh",)), (-1, 0, (b"sh",))),
        (Execution(script_source=ScriptSource.ON_WORKER), (-1, 2)),
    ],
)
def test_what_was_not_asked_for_of_an_execution_takes_no_room(
    execution: Execution, fields: tuple[object, ...]
) -> None:
    assert execution_fields(execution) == fields
    read = execution_of([list(each) if isinstance(each, tuple) else each for each in fields])
    assert read == execution
    assert type(read.script_source) is ScriptSource
    assert type(read.interpreter) is tuple
