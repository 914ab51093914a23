"""When which timer is due."""

from __future__ import annotations

import math

from tests.worker.builders import key
from titan.worker.host.actions import Purpose
from titan.worker.host.timers import Timers


def test_timers_are_due_in_order_of_time_and_once() -> None:
    timers = Timers(lambda _: True)
    assert timers.next_due == math.inf
    timers.start(7.0, key(1), Purpose.LIMIT)
    timers.start(5.0, key(2), Purpose.GRACE)
    timers.start(5.0, key(2), Purpose.WARNING)
    timers.start(9.0, key(3), Purpose.GRACE)
    assert timers.next_due == 5.0
    assert list(timers.take_due(4.9)) == []
    assert list(timers.take_due(7.0)) == [
        (key(2), Purpose.GRACE),
        (key(2), Purpose.WARNING),
        (key(1), Purpose.LIMIT),
    ]
    assert list(timers.take_due(7.0)) == []
    assert timers.next_due == 9.0


def test_the_timers_of_attempts_that_ended_are_not_kept_until_they_are_due() -> None:
    live = {key(index=index) for index in range(1_500)}
    timers = Timers(live.__contains__)
    for attempt in sorted(live):
        timers.start(1e9, attempt, Purpose.LIMIT)
    for index in range(1_500, 20_000):
        timers.start(1e9, key(index=index), Purpose.LIMIT)
        assert len(timers) <= 3 * len(live)
    assert {attempt for attempt, _ in timers.take_due(math.inf)} >= live
