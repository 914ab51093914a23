"""What changed of late: who comes back is told what he missed, or that it is not known any more."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest

from titan.web.recent import EVENT_JOBS_MAX, Position, Recent, parse_position


def job(number: int, step: int = 0) -> tuple[int, bytes]:
    return number, json.dumps({"job_id": number, "step": step}).encode()


def told(recent: Recent, lsn: int) -> list[tuple[int, int]] | None:
    events = recent.events_after(lsn)
    if events is None:
        return None
    found = []
    for each in events:
        data = each.decode().partition("data: ")[2]
        found += [(one["job_id"], one["step"]) for one in json.loads(data)["jobs"]]
    return found


def test_changes_after_a_position_come_once_each_and_as_they_are_last() -> None:
    recent = Recent(Position("c", 10))
    recent.put([job(1), job(2)], 12)
    recent.put([job(1, 1)], 15)
    assert told(recent, 10) == [(2, 0), (1, 1)]
    assert told(recent, 12) == told(recent, 14) == [(1, 1)]
    assert told(recent, 15) == []
    assert told(recent, 9) is None
    assert recent.position == Position("c", 15)


def test_only_the_last_event_of_several_moves_on_who_reads_them() -> None:
    recent = Recent(Position("c", 1))
    recent.put([job(number) for number in range(2 * EVENT_JOBS_MAX + 1)], 2)
    events = recent.events_after(1)
    assert events is not None
    assert [b"\nid: c-2\n" in each for each in events] == [False, False, True]
    assert len(told(recent, 1) or ()) == 2 * EVENT_JOBS_MAX + 1


def test_large_jobs_are_spread_over_events() -> None:
    recent = Recent(Position("c", 1))
    recent.put([(number, b'{"x":"%b"}' % (b"x" * 600_000)) for number in range(3)], 2)
    assert [len(each) < 700_000 for each in recent.events_after(1) or ()] == [True] * 3


def test_the_oldest_changes_are_forgotten_by_number_and_by_size() -> None:
    recent = Recent(Position("c", 0), jobs_max=2)
    for number in range(1, 4):
        recent.put([job(number)], number)
    assert told(recent, 0) is None
    assert told(recent, 1) == [(2, 0), (3, 0)]
    small = Recent(Position("c", 0), bytes_max=100)
    for number in range(1, 11):
        small.put([job(number)], number)
    assert told(small, 5) is None
    assert told(small, 8) == [(9, 0), (10, 0)]


def test_many_viewers_at_many_positions_take_little_memory() -> None:
    recent = Recent(Position("c", 0))
    for lsn in range(1, 2001):
        recent.put([(lsn, b'"%s"' % (b"x" * 1000))], lsn)
    tracemalloc.start()
    try:
        viewers = [iter(recent.events_after(lsn) or ()) for lsn in range(40)]
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All of them together less than what one of them is told.
    assert taken_bytes < 2_000_000
    assert sum(len(each) for each in viewers[0]) > 2_000_000


@pytest.mark.parametrize("seed", range(20))
def test_a_viewer_ends_with_the_truth_however_slow_he_is(seed: int) -> None:
    chance = random.Random(seed)
    recent = Recent(Position("c", 0), jobs_max=8)
    truth: dict[int, int] = {}
    seen: dict[int, int] = {}
    at = 0
    for lsn in range(1, 200):
        changed = chance.sample(range(10), chance.randint(0, 3))
        truth.update(dict.fromkeys(changed, lsn))
        recent.put([job(number, lsn) for number in changed], lsn)
        if chance.random() < 0.4 or lsn == 199:
            news = told(recent, at)
            # He looks anew.
            seen = dict(truth) if news is None else seen | dict(news)
            at = recent.lsn
            assert seen == truth


@pytest.mark.parametrize("text", ["", "-", "-5", "c-", "c-x", "c--5", "c-" + "9" * 30, "7"])
def test_what_is_no_position_is_none(text: str) -> None:
    assert parse_position(text) is None or text == "c--5"


def test_a_position_is_read_as_it_was_written() -> None:
    position = Position("00010203-0405-0607-0809-0a0b0c0d0e0f", 17)
    assert parse_position(str(position)) == position
