"""States of the past: each is the one that there was, and few are made twice."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

import wal
from tests.lookback.builders import RECORDS_PER_FRAME, History, records, states, time_of
from titan.errors import OutOfRange
from titan.lookback import past as past_module
from titan.lookback.past import Past, record_time
from titan.snapshots import load_snapshot
from titan.state import digest
from titan.state.replay import replay

LAST = len(records())


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The LSN of every record that was replayed, and 0 for every snapshot that was read."""
    seen: list[int] = []

    def count(some: Any, state: Any) -> int:
        def noted() -> Any:
            for record in some:
                seen.append(record[0])
                yield record

        return replay(noted(), state)

    def noted_load(*arguments: Any) -> Any:
        seen.append(0)
        return load_snapshot(*arguments)

    monkeypatch.setattr(past_module, "replay", count)
    monkeypatch.setattr(past_module, "load_snapshot", noted_load)
    return seen


def test_the_state_at_every_lsn_is_the_one_that_there_was(history: History, past: Past) -> None:
    history.take_snapshots(LAST // 3, LAST // 2)
    lsns = list(range(1, LAST + 1, 3))
    expected = {state.lsn: digest(state) for state in states() if state.lsn in lsns}
    # In an order in which all ways of making one are taken.
    random.Random(7).shuffle(lsns)
    assert {lsn: digest(past.state_at(lsn=lsn)) for lsn in lsns} == expected


def test_the_state_at_a_time_is_that_of_the_last_record_up_to_it(
    history: History, past: Past
) -> None:
    history.take_snapshots(LAST // 2)
    times = [time_of(lsn) for lsn in range(1, LAST + 1)]
    for lsn in range(1, LAST, 7):
        for time_us in (times[lsn - 1], times[lsn] - 1):
            if time_us < times[lsn - 1]:
                continue
            wanted = max(each for each in range(1, LAST + 1) if times[each - 1] <= time_us)
            assert past.state_at(time_us=time_us).lsn == wanted


def test_a_record_tells_its_time_without_being_decoded() -> None:
    assert [record_time(each) for each in records()] == [time_of(lsn) for lsn in range(1, LAST + 1)]


def test_the_same_moment_is_answered_from_memory(
    history: History, past: Past, replayed: list[int]
) -> None:
    history.take_snapshots(LAST // 2)
    lsn = next(n for n in range(LAST // 2 + 20, LAST) if time_of(n + 1) - time_of(n) > 2)
    state = past.state_at(lsn=lsn)
    assert replayed == [0, *range(LAST // 2 + 1, lsn + 1)]
    replayed.clear()
    between = time_of(lsn) + 1
    # Of this thread, however long others keep it from a core.
    started = time.thread_time()
    assert past.state_at(lsn=lsn) is state
    assert past.state_at(time_us=between) is state
    assert past.state_at(time_us=between) is state
    assert time.thread_time() - started < 0.2
    assert replayed == []


def test_a_few_states_are_kept_and_the_one_asked_about_last_is_not_moved_on(
    past: Past, replayed: list[int]
) -> None:
    first = past.state_at(lsn=100)
    second = past.state_at(lsn=110)
    # The first was the one asked about last.
    assert replayed == [*range(1, 101), *range(1, 111)]
    replayed.clear()
    assert past.state_at(lsn=120).lsn == 120
    # The first again, moved on: it was nearer than the beginning.
    assert replayed == list(range(101, 121))
    assert first.lsn == 120
    assert second.lsn == 110
    past.state_at(lsn=30)
    past.state_at(lsn=20)
    replayed.clear()
    # Three are kept: 120, 30 and 20. The second had to go.
    past.state_at(lsn=120)
    past.state_at(lsn=30)
    past.state_at(lsn=20)
    assert replayed == []
    assert past.state_at(lsn=110) is not second


def test_a_snapshot_nearer_than_what_is_kept_is_used(
    history: History, past: Past, replayed: list[int]
) -> None:
    history.take_snapshots(200)
    past.state_at(lsn=50)
    past.state_at(lsn=40)
    replayed.clear()
    past.state_at(lsn=205)
    assert replayed == [0, 201, 202, 203, 204, 205]


def test_what_is_appended_is_seen_and_now_is_the_newest_record(tmp_path: Path) -> None:
    history = History(tmp_path / "manager")
    history.append(records()[:100])
    past = Past(history.directory, now_us=lambda: time_of(LAST))
    assert past.newest().lsn == 100
    now_us = time_of(101) - 1
    if now_us >= time_of(100):
        assert past.state_at(time_us=now_us).lsn == 100
    history.append(records()[100:150])
    assert past.newest().lsn == 150
    # What was asked before more came is the same now that it is the past.
    assert past.state_at(time_us=time_of(150)).lsn == 150
    assert past.state_at(lsn=100).lsn == 100
    past.close()
    history.close()


def test_before_the_oldest_and_after_the_newest_is_out_of_range_and_says_what_is_not(
    history: History,
) -> None:
    last_us = time_of(LAST)
    past = Past(history.directory, now_us=lambda: last_us + 60_000_000)
    assert past.state_at(time_us=last_us + 59_000_000).lsn == LAST
    for wanted, what in (
        ({"lsn": LAST + 1}, f"LSN {LAST + 1} has not come yet: .* from LSN 1 (.*) to LSN {LAST} "),
        ({"lsn": -1}, "there is no LSN -1: "),
        ({"time_us": last_us + 90_000_000}, "that time has not come yet: "),
        ({"time_us": time_of(1) - 1}, "before the oldest moment that is kept: .* from LSN 1 "),
        ({"lsn": 0}, "before the oldest moment"),
    ):
        with pytest.raises(OutOfRange, match=what):
            past.state_at(**wanted)
    past.close()


def test_where_the_beginning_is_gone_the_past_begins_with_the_oldest_snapshot(
    history: History, past: Past
) -> None:
    cut = LAST // 2
    history.take_snapshots(cut, cut + 30)
    wal.remove_segments_before(history.directory / "wal", cut + 1)
    expected = {state.lsn: digest(state) for state in states() if state.lsn in (cut, cut + 40)}
    assert digest(past.state_at(lsn=cut)) == expected[cut]
    assert digest(past.state_at(lsn=cut + 40)) == expected[cut + 40]
    assert past.state_at(time_us=time_of(cut)).lsn >= cut
    for wanted in ({"lsn": cut - 1}, {"time_us": time_of(cut) - 1}):
        with pytest.raises(OutOfRange, match=f"from LSN {cut} "):
            past.state_at(**wanted)


def test_a_damaged_snapshot_is_passed_over_with_a_warning(
    history: History, past: Past, replayed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    history.take_snapshots(100, 200)
    history.damage_snapshot(200)
    expected = next(digest(state) for state in states() if state.lsn == 210)
    assert digest(past.state_at(lsn=210)) == expected
    assert "200" in caplog.text
    assert replayed == [0, 0, *range(101, 211)]
    replayed.clear()
    # It is not tried again.
    past.state_at(lsn=205)
    assert replayed == [0, *range(101, 206)]


def test_a_state_whose_successors_were_removed_does_not_stand_in_the_way(
    history: History, tmp_path: Path
) -> None:
    segments = [each.first_lsn for each in wal.list_segments(history.directory / "wal")]
    end = next(first - 1 for first in segments[1:] if (first - 1) % RECORDS_PER_FRAME == 0)
    other = History(tmp_path / "other")
    other.append(records()[:end])
    past = Past(other.directory, now_us=lambda: time_of(LAST))
    # It stands at the end of the log, and of a segment.
    assert past.newest().lsn == end
    other.append(records()[end:])
    other.take_snapshots(LAST - 20)
    wal.remove_segments_before(other.directory / "wal", LAST - 20)
    assert past.list_segments()[0] > end + 1, "what follows it is gone"
    for lsn in range(LAST - 10, LAST, 3):
        assert past.state_at(time_us=time_of(lsn)).time_us == time_of(lsn)
    with pytest.raises(OutOfRange, match="before the oldest"):
        past.state_at(time_us=time_of(end))
    past.close()
    other.close()
