"""The manager's time, on a monotonic and a wall clock that the test sets."""

from __future__ import annotations

import pytest

from titan.manager import clock

SECOND_US = 1_000_000


class Times:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.wall_us = 1_700_000_000 * SECOND_US
        self.monotonic_us = 5 * SECOND_US

    def time_ns(self) -> int:
        return self.wall_us * 1000

    def monotonic_ns(self) -> int:
        return self.monotonic_us * 1000


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    """The clocks that the manager looks at."""
    made = Times()
    monkeypatch.setattr(clock, "time", made)
    return made


def test_a_wall_clock_that_is_set_changes_nothing(times: Times) -> None:
    made = clock.Clock(not_before_us=0)
    start = made.now_us()
    assert start == times.wall_us
    times.wall_us -= 3600 * SECOND_US
    times.monotonic_us += 7
    assert made.now_us() == start + 7


def test_time_never_goes_back_over_a_restart(times: Times) -> None:
    later = times.wall_us + 3600 * SECOND_US
    assert clock.Clock(not_before_us=later).now_us() == later


def test_time_in_which_the_loop_did_not_turn_is_not_counted(times: Times) -> None:
    made = clock.TurnClock()
    assert made.turned_us() == 0
    assert made.note_turn(SECOND_US)
    times.monotonic_us += SECOND_US
    assert made.note_turn(SECOND_US)
    assert made.turned_us() == SECOND_US
    # The machine was asleep for an hour.
    times.monotonic_us += 3601 * SECOND_US
    assert not made.note_turn(SECOND_US)
    assert made.turned_us() == 2 * SECOND_US
    times.monotonic_us += SECOND_US
    assert made.note_turn(SECOND_US)
    assert made.turned_us() == 3 * SECOND_US


def test_a_stall_is_not_counted_either_by_a_call_before_the_turn_that_tells_of_it(
    times: Times,
) -> None:
    made = clock.TurnClock()
    made.note_turn(SECOND_US)
    times.monotonic_us += 30 * SECOND_US
    assert made.turned_us() == SECOND_US
    assert not made.note_turn(SECOND_US)
    assert made.turned_us() == SECOND_US
    times.monotonic_us += 300
    assert made.turned_us() == SECOND_US + 300


def test_a_turn_that_is_a_little_late_counts(times: Times) -> None:
    made = clock.TurnClock()
    times.monotonic_us += clock.LATENESS_MAX_US
    assert made.note_turn(SECOND_US)
    assert made.turned_us() == clock.LATENESS_MAX_US


def test_one_job_at_a_time_is_no_flood_and_many_callers_are() -> None:
    traffic = clock.Traffic()
    for millisecond in range(0, 1_000, 2):
        traffic.note(millisecond * 1000)
    assert not traffic.is_flood()
    for tenth in range(200):
        traffic.note(1_000_000 + tenth * 500)
    assert traffic.is_flood()
    # It is over as soon as nobody calls for a moment.
    traffic.note(1_200_000)
    assert not traffic.is_flood()
