"""How long it is looked whether suspended attempts stand still."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from tests.worker.builders import key
from titan.model import AttemptKey
from titan.worker.host.standstill import FIRST_SECONDS, LOOKS_MAX, Standstill


class Moving:
    """Attempts of which something moves for so many looks."""

    def __init__(self, **looks: int) -> None:
        self.looks = {key(index=int(name[1:])): count for name, count in looks.items()}
        self.asked: list[list[AttemptKey]] = []

    def stop(self, keys: Collection[AttemptKey]) -> set[AttemptKey]:
        self.asked.append(list(keys))
        moving = {each for each in keys if self.looks[each] > 0}
        for each in moving:
            self.looks[each] -= 1
        return moving


def look_to_the_end(standstill: Standstill) -> list[float]:
    """When it was looked."""
    times = []
    while standstill.next_look < math.inf:
        times.append(standstill.next_look)
        standstill.look(standstill.next_look)
    return times


def test_one_look_is_enough_where_nothing_moves() -> None:
    moving = Moving(_0=0)
    standstill = Standstill(moving.stop)
    assert standstill.next_look == math.inf
    standstill.add(key(), 7.0)
    assert look_to_the_end(standstill) == [7.0 + FIRST_SECONDS]
    assert moving.asked == [[key()]]


def test_each_is_looked_at_until_it_stands_still_and_less_and_less_often() -> None:
    moving = Moving(_0=0, _1=2)
    standstill = Standstill(moving.stop)
    standstill.add(key(index=0), 0.0)
    standstill.add(key(index=1), 0.001)
    first, second, third = look_to_the_end(standstill)
    assert first == FIRST_SECONDS
    assert third - second == pytest.approx(2 * (second - first))
    assert moving.asked == [[key(index=0), key(index=1)], [key(index=1)], [key(index=1)]]


def test_what_goes_on_or_ends_is_looked_at_no_longer() -> None:
    standstill = Standstill(Moving(_0=99, _1=0).stop)
    standstill.add(key(index=0), 0.0)
    standstill.add(key(index=1), 0.0)
    standstill.remove(key(index=0))
    standstill.remove(key(index=9))
    assert len(look_to_the_end(standstill)) == 1
    standstill.add(key(index=0), 0.0)
    standstill.remove(key(index=0))
    assert standstill.next_look == math.inf


def test_what_never_stands_still_is_told_and_given_up(caplog: pytest.LogCaptureFixture) -> None:
    standstill = Standstill(Moving(_3=99).stop)
    standstill.add(key(index=3), 0.0)
    assert len(look_to_the_end(standstill)) == LOOKS_MAX
    assert caplog.messages == ["task 1.3 was suspended and does not stand still"]
