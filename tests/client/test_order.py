"""In which order jobs can start that wait for each other."""

from itertools import pairwise

import pytest

from titan.client.order import check_order, in_order
from titan.errors import InvalidJob


def test_a_job_comes_behind_those_that_it_waits_for() -> None:
    assert in_order(["a", "b", "c", "d"], [[1, 3], [], [], [2]]) == [1, 2, 3, 0]


def test_without_waiting_the_order_stays() -> None:
    assert in_order(["a", "b", "c"], [[], [], []]) == [0, 1, 2]


def test_a_circle_is_named_as_it_waits() -> None:
    with pytest.raises(InvalidJob) as error:
        check_order(["a", "b", "c", "free"], [[1], [2], [0], []])
    sentence = str(error.value)
    assert sentence.startswith("jobs that wait for each other could never start: ")
    names = sentence.partition("start: ")[2].split(" waits for ")
    assert names[0] == names[-1]
    assert set(names) == {"a", "b", "c"}
    waits = {"a": "b", "b": "c", "c": "a"}
    assert all(waits[one] == other for one, other in pairwise(names))


def test_who_waits_for_itself_is_told_so() -> None:
    with pytest.raises(InvalidJob, match="job b waits for itself"):
        check_order(["a", "b"], [[1], [1]])


def test_of_a_long_circle_a_few_are_named() -> None:
    count = 10_000
    names = [f"t{number}" for number in range(count)]
    with pytest.raises(InvalidJob) as error:
        check_order(names, [[(number + 1) % count] for number in range(count)])
    assert " waits for … waits for " in str(error.value)
    assert len(str(error.value)) < 300
