"""The reference itself, on cases that one can work out on paper."""

from __future__ import annotations

import pytest

from tests.simulator.reference import PASSES, Work, start_times

# On 4 cpus: 2 run for 10 s, then one wants all 4, then come small ones.
RUNNING = Work(0, 10, 10, 2)
WIDE = Work(1, 5, 5, 4)


@pytest.mark.parametrize("order", PASSES)
def test_a_job_that_fits_starts_when_it_comes(order: str) -> None:
    assert start_times([Work(3, 5, 5, 4), Work(8, 1, 1, 4)], 4, order) == [3, 8]


@pytest.mark.parametrize("order", PASSES)
def test_a_job_that_takes_no_time_makes_room_at_once(order: str) -> None:
    jobs = [Work(1, 0, 0, 4), Work(1, 0, 0, 3), Work(1, 7, 7, 4), Work(1, 0, 0, 1)]
    assert start_times(jobs, 4, order)[:2] == [1, 1]
    assert sorted(start_times(jobs, 4, order))[3] in (1, 8)


@pytest.mark.parametrize(
    ("order", "starts"),
    [
        # Nothing overtakes the wide one.
        ("fcfs", [0, 10, 15, 15]),
        # Both do, and the second one holds it up.
        ("skip", [0, 14, 2, 2]),
        # The first ends by the time at which the wide one can start; the second does not.
        ("easy", [0, 10, 2, 15]),
        ("easy-sjbf", [0, 10, 2, 15]),
    ],
)
def test_who_may_overtake_a_wide_job(order: str, starts: list[int]) -> None:
    jobs = [RUNNING, WIDE, Work(2, 8, 8, 1), Work(2, 12, 12, 1)]
    assert start_times(jobs, 4, order) == starts


def test_what_the_wide_job_leaves_over_may_be_taken_for_long() -> None:
    jobs = [Work(0, 10, 10, 3), Work(1, 5, 5, 2), Work(2, 99, 99, 1), Work(2, 99, 99, 1)]
    # At 10 two of four cpus are to spare: one of the long ones fits until then.
    assert start_times(jobs, 4, "easy") == [0, 10, 2, 10]


def test_backfill_goes_by_the_estimate_and_ends_free_early() -> None:
    jobs = [Work(0, 3, 10, 2), WIDE, Work(2, 1, 9, 2), Work(2, 1, 8, 2)]
    assert start_times(jobs, 4, "easy") == [0, 3, 8, 2]


def test_the_shortest_may_go_first_in_the_backfill() -> None:
    jobs = [RUNNING, WIDE, Work(2, 8, 8, 2), Work(2, 3, 3, 2)]
    assert start_times(jobs, 4, "easy") == [0, 10, 2, 15]
    assert start_times(jobs, 4, "easy-sjbf") == [0, 10, 15, 2]
