"""RisingIds beside a sorted list of what is there."""

from __future__ import annotations

import random

import pytest

from titan.state.rising_ids import RisingIds


@pytest.mark.parametrize("seed", range(5))
def test_it_gives_what_a_sorted_list_of_the_table_would(seed: int) -> None:
    rng = random.Random(seed)
    table = dict.fromkeys(rng.sample(range(1, 500), 200))
    ids = RisingIds(table, table)
    top = 500
    for _ in range(300):
        if rng.random() < 0.3:
            more = range(top, top + rng.randint(1, 40))
            table.update(dict.fromkeys(more))
            ids.add(more)
            top = more.stop
        for gone in rng.sample(list(table), min(len(table), rng.randint(0, 12))):
            del table[gone]
            ids.note_gone()
        low, high = (rng.choice([None, rng.randint(0, top)]) for _ in range(2))
        inclusive = (rng.random() < 0.5, rng.random() < 0.5)
        expected = [
            each
            for each in sorted(table)
            if (low is None or low < each or (low == each and inclusive[0]))
            and (high is None or each < high or (each == high and inclusive[1]))
        ]
        assert list(ids.irange(low, high, inclusive)) == expected
        assert list(ids.irange(low, high, inclusive, reverse=True)) == expected[::-1]


def test_what_left_the_table_takes_no_room_for_ever() -> None:
    table = dict.fromkeys(range(10_000))
    ids = RisingIds(table, table)
    through = ids.irange()
    assert next(through) == 0
    for gone in range(9_990):
        del table[gone]
        ids.note_gone()
    assert len(ids._ids) < 1_100
    # Whoever was going through them goes on.
    assert list(through) == list(range(9_990, 10_000)) == list(ids.irange())
