"""How busy a cluster was, against sums over every interval by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import sqlalchemy as sa

from tests.history.builders import Rows, expected_rows, place, project, read_rows
from tests.lookback.builders import records as story
from tests.state.builders import Story
from titan import events as ev
from titan.accounting import SHARES, Usage
from titan.history.database import open_for_reading
from titan.history.projection import all_rows
from titan.history.questions import Questions
from titan.history.store import Store
from titan.model import Reason, State
from titan.scheduling import Scheduling

LENGTH = len(story()) // 2
ROWS = expected_rows(story()[:LENGTH])
TIMES = sorted(row["end_time"] for row in ROWS["attempts"])
# The whole of it and some, a part, and one before anything was.
STRETCHES = [
    (TIMES[0] - 60, TIMES[-1] + 60, 17),
    (TIMES[len(TIMES) // 3], TIMES[2 * len(TIMES) // 3], 5),
    (TIMES[-20], TIMES[-1] + 0.5, 60),
    (TIMES[0] - 7200, TIMES[0] - 3600, 4),
]


@pytest.fixture
def questions(engine: sa.Engine, store: Store) -> Iterator[Questions]:
    """Of half of the long story: some of it still runs, some waits."""
    project(store, story()[:LENGTH])
    reading = open_for_reading(engine.url)
    yield Questions(reading)
    reading.dispose()


@pytest.mark.parametrize(("since", "until", "count"), STRETCHES, ids=range(len(STRETCHES)))
def test_the_sums_of_the_database_are_those_by_hand(
    questions: Questions, since: float, until: float, count: int
) -> None:
    usage = questions.usage(since, until, count)
    expected = by_hand(ROWS, since, until, count)
    assert usage.waits == pytest.approx(expected.waits, abs=1e-5)
    assert (usage.ended, usage.failed) == (expected.ended, expected.failed)
    # Unix seconds are exact to a quarter of a microsecond, of parts that are milliseconds long.
    for name in ("busy_cpus", "cpus", "waiting"):
        assert getattr(usage, name) == pytest.approx(getattr(expected, name), rel=1e-5, abs=1e-4)


def test_the_story_has_something_of_everything() -> None:
    usage = by_hand(ROWS, *STRETCHES[0])
    assert ROWS["running"]
    assert all(any(series) for series in (usage.ended, usage.failed, usage.busy_cpus, usage.cpus))
    assert any(usage.waiting)
    assert None not in usage.waits
    assert {row["event"] for row in ROWS["worker_events"]} >= {"REGISTERED", "LOST"}


def test_where_nothing_was_written_there_is_nothing(engine: sa.Engine, store: Store) -> None:
    reading = open_for_reading(engine.url)
    try:
        usage = Questions(reading).usage(0, 100, 4)
    finally:
        reading.dispose()
    assert usage.waits == (None, None, None)
    assert usage.utilisation is None
    assert usage.ended == (0, 0, 0, 0)


def test_workers_that_a_history_found_where_it_began_were_there_from_then_on(
    engine: sa.Engine, store: Store
) -> None:
    tale = Story()
    gone, stays = tale.worker(2000), tale.worker(4000)
    store.write_anew(place(0), [])
    store.write_anew(place(tale.state.lsn), all_rows(tale.state))
    began = tale.state.time_us / 1e6
    reading = open_for_reading(engine.url)
    try:
        questions = Questions(reading)
        usage = questions.usage(began - 10, began + 10, 4)
        assert list(usage.cpus) == [0, 0, 6, 6]
        # What happened next is lost; it was so by the place where the log goes on.
        tale.apply(ev.WorkerLost(gone), time_us=tale.state.time_us + 5_000_000)
        for _ in range(2):
            store.write_anew(place(tale.state.lsn), all_rows(tale.state))
            usage = questions.usage(began - 10, began + 10, 4)
            assert list(usage.cpus) == [0, 0, 6, 4]
    finally:
        reading.dispose()
    found = [
        (row["number"], row["event"], row["cpus"]) for row in read_rows(engine)["worker_events"]
    ]
    assert sorted(found) == sorted(
        [(gone, "FOUND", 2.0), (stays, "FOUND", 4.0), (gone, "FOUND", 0.0)]
    )


def test_an_attempt_that_runs_has_waited_from_the_end_of_the_one_before(
    engine: sa.Engine, store: Store
) -> None:
    tale = Story()
    tale.worker()
    job = tale.job(scheduling=Scheduling(retries=1))
    submit_us = tale.state.time_us
    tale.assign(job)
    tale.apply(
        ev.AttemptEnded(
            job, 0, 1, State.FAILED, Reason.EXIT, 1, -1, submit_us + 4_000_000,
            submit_us + 10_000_000, 0, 0, 0, "", State.PENDING,
        )
    )  # fmt: skip
    # It was given a place, and taken back.
    tale.assign(job, attempt=2)
    tale.apply(ev.RecallRequested(job, 0, 2), ev.Recalled(job, 0, 2))
    tale.assign(job, attempt=3)
    tale.start(job, attempt=3, start_us=submit_us + 25_000_000)
    store.write_anew(place(tale.state.lsn), all_rows(tale.state))
    reading = open_for_reading(engine.url)
    try:
        usage = Questions(reading).usage(submit_us / 1e6, submit_us / 1e6 + 40, 4)
    finally:
        reading.dispose()
    assert list(usage.waiting) == pytest.approx([0.4, 1, 0.5, 0])


class Series:
    """Averages over equal parts of a stretch of time, an interval at a time."""

    def __init__(self, since: float, until: float, count: int) -> None:
        self.since, self.width = since, (until - since) / count
        self.averages = [0.0] * count

    def add(self, begin: float, end: float, weight: float) -> None:
        for number in range(len(self.averages)):
            from_ = self.since + number * self.width
            inside = min(end, from_ + self.width) - max(begin, from_)
            self.averages[number] += weight * max(0.0, inside) / self.width


def by_hand(rows: Rows, since: float, until: float, count: int) -> Usage:
    stretch = (since, until, count)
    busy, waiting, offered = Series(*stretch), Series(*stretch), Series(*stretch)
    ended, waits = [], []
    runs: dict[int, int] = {}
    for row in rows["running"]:
        runs[row["job_id"]] = runs.get(row["job_id"], 0) + 1
    attempts = [row for row in rows["attempts"] if row["state"] != "RECALLED"]
    for row in (*attempts, *rows["running"]):
        end, start = row.get("end_time", until), row["start_time"]
        if "end_time" in row and since <= end < until:
            ended.append((min(int((end - since) / busy.width), count - 1), row["state"]))
        if start is not None:
            busy.add(start, end, row["cpus"])
            if "end_time" in row:
                waiting.add(start - row["wait_seconds"], start, 1)
            else:
                before = [
                    each["end_time"]
                    for each in attempts
                    if (each["job_id"], each["task_index"]) == (row["job_id"], row["task_index"])
                    and each["attempt"] < row["attempt"]
                ]
                waiting.add(max(before, default=row["submit_time"]), start, 1)
            if row["attempt"] == 1:
                waits += [max(0, start - row["submit_time"])] if since <= start < until else []
    for row in rows["jobs"]:
        if row["end_time"] is None:
            over = row["tasks_completed"] + row["tasks_failed"] + row["tasks_cancelled"]
            left = row["tasks"] - over - runs.get(row["job_id"], 0)
            waiting.add(row["submit_time"], until, left)
    for number in {row["number"] for row in rows["worker_events"]}:
        events = [row for row in rows["worker_events"] if row["number"] == number]
        for one, other in pairwise([*events, {"time": until}]):
            offered.add(one["time"], min(other["time"], until), one["cpus"])
    waits.sort()
    ranks = [max(1, math.ceil(len(waits) * share - 1e-9)) for share in SHARES]
    places = [number for number, _ in ended]
    fails = [number for number, state in ended if state == "FAILED"]
    return Usage(
        since=since,
        until=until,
        waits=tuple(waits[rank - 1] if waits else None for rank in ranks),
        ended=tuple(map(places.count, range(count))),
        failed=tuple(map(fails.count, range(count))),
        busy_cpus=tuple(busy.averages),
        cpus=tuple(offered.averages),
        waiting=tuple(waiting.averages),
    )
