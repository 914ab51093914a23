"""When which timer is due."""

from __future__ import annotations

import math

from tests.worker.builders import key
from titan.worker.host.actions import DropLimit, Purpose, Resume, StartTimer, Suspend
from titan.worker.host.timers import Timers

LIMIT = StartTimer(key(), 7_000, Purpose.LIMIT)
WARNING = StartTimer(key(), 5_000, Purpose.WARNING)
GRACE = StartTimer(key(), 6_000, Purpose.GRACE)


def running(*timers: StartTimer) -> Timers:
    """Those of an attempt that runs since 100.0."""
    made = Timers(lambda _: True)
    made.begin(key(), 100.0)
    for each in timers:
        made.perform(each, 100.0)
    return made


def due(timers: Timers, now: float) -> list[StartTimer]:
    return list(timers.take_due(now))


def test_timers_are_due_in_order_of_time_and_once() -> None:
    timers = running(LIMIT, GRACE, WARNING)
    assert timers.next_due == 105.0
    assert due(timers, 104.9) == []
    assert due(timers, 107.0) == [WARNING, GRACE, LIMIT]
    assert due(timers, 107.0) == []
    assert timers.next_due == math.inf
    assert len(timers) == 0


def test_a_limit_counts_from_the_start_and_a_grace_from_now() -> None:
    timers = running()
    timers.perform(LIMIT, 103.0)
    timers.perform(GRACE, 103.0)
    assert due(timers, 108.9) == [LIMIT]
    assert due(timers, 109.0) == [GRACE]


def test_a_limit_that_is_over_already_is_due_at_once() -> None:
    timers = running()
    timers.perform(LIMIT, 150.0)
    assert due(timers, 150.0) == [LIMIT]


def test_a_later_limit_takes_the_place_of_an_earlier_one_and_every_grace_counts() -> None:
    timers = running(LIMIT, WARNING, GRACE)
    longer = LIMIT._replace(after_ms=9_000)
    timers.perform(longer, 104.0)
    timers.perform(GRACE, 101.0)
    assert due(timers, 108.9) == [WARNING, GRACE, GRACE]
    assert due(timers, 109.0) == [longer]
    # Also one that it had before.
    timers = running(LIMIT, longer, LIMIT)
    assert due(timers, 200.0) == [LIMIT]


def test_a_limit_that_is_dropped_is_not_due_and_a_grace_is() -> None:
    timers = running(LIMIT, WARNING, GRACE)
    timers.perform(DropLimit(key()), 101.0)
    assert due(timers, 200.0) == [GRACE]


def test_the_time_of_what_is_suspended_does_not_count_for_its_limit() -> None:
    timers = running(LIMIT, WARNING, GRACE)
    timers.perform(Suspend(key()), 102.0)
    assert due(timers, 150.0) == [GRACE]
    timers.perform(Resume(key()), 150.0)
    assert timers.next_due == 153.0
    assert due(timers, 154.0) == [WARNING]
    # A second time, and suspended twice over.
    timers.perform(Suspend(key()), 154.0)
    timers.perform(Suspend(key()), 160.0)
    timers.perform(Resume(key()), 164.0)
    timers.perform(Resume(key()), 180.0)
    assert due(timers, 164.9) == []
    assert due(timers, 165.0) == [LIMIT]


def test_a_limit_that_is_given_while_suspended_counts_from_the_start_without_that() -> None:
    timers = running()
    timers.perform(Suspend(key()), 102.0)
    timers.perform(LIMIT, 110.0)
    assert due(timers, 150.0) == []
    timers.perform(Resume(key()), 150.0)
    assert due(timers, 154.9) == []
    assert due(timers, 155.0) == [LIMIT]


def test_what_has_ended_has_no_limit() -> None:
    timers = running(LIMIT)
    timers.end(key())
    timers.perform(WARNING, 101.0)
    timers.perform(Suspend(key()), 101.0)
    timers.perform(Resume(key()), 102.0)
    timers.end(key())
    assert due(timers, 200.0) == []


def test_the_timers_of_attempts_that_ended_are_not_kept_until_they_are_due() -> None:
    live = [key(index=index) for index in range(1_500)]
    timers = Timers(set(live).__contains__)

    def run(index: int) -> None:
        timers.begin(key(index=index), 0.0)
        timers.perform(LIMIT._replace(key=key(index=index), after_ms=1 << 40), 0.0)
        timers.perform(GRACE._replace(key=key(index=index), after_ms=1 << 40), 0.0)
        assert len(timers) <= 6 * len(live) + 2

    for index in range(1_500):
        run(index)
    for index in range(1_500, 20_000):
        run(index)
        timers.end(key(index=index))
    assert [each.key for each in due(timers, math.inf) if each.purpose is Purpose.LIMIT] == live


def test_what_is_suspended_again_and_again_leaves_nothing_behind() -> None:
    timers = running(LIMIT)
    for _ in range(10_000):
        timers.perform(Suspend(key()), 101.0)
        timers.perform(Resume(key()), 101.0)
        timers.perform(LIMIT, 101.0)
        assert len(timers) <= 1_001
    assert due(timers, 107.0) == [LIMIT]
