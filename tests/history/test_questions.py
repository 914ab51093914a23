"""What `titan history` asks, against what Python makes of the same rows."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.history.builders import expected_rows, place, project
from tests.lookback.builders import records as story
from tests.state.builders import T0, Story
from titan import events as ev
from titan.accounting import Wanted
from titan.history.database import HistoryRefused, open_for_reading
from titan.history.projection import all_rows
from titan.history.questions import Questions
from titan.history.store import Store
from titan.model import IndexRange, Reason, State
from titan.scheduling import Scheduling

ROWS = expected_rows(story())
ATTEMPTS = ROWS["attempts"]
RAN = [row for row in ATTEMPTS if row["state"] != "RECALLED"]
ENDS = sorted(row["end_time"] for row in ATTEMPTS)


@pytest.fixture
def questions(engine: sa.Engine, store: Store) -> Iterator[Questions]:
    """Of the long story."""
    project(store, story())
    reading = open_for_reading(engine.url)
    yield Questions(reading)
    reading.dispose()


def key(row: dict[str, Any]) -> tuple[int, int | None, int | None]:
    return row["job_id"], row.get("task_index", row.get("index", -1)), row["attempt"]


CHOICES: list[tuple[Wanted, Callable[[dict[str, Any]], bool]]] = [
    (Wanted(), lambda row: row["state"] != "RECALLED"),
    (Wanted(states=("RECALLED",)), lambda row: row["state"] == "RECALLED"),
    (
        Wanted(states=("FAILED", "LOST"), user="ada"),
        lambda row: row["state"] in ("FAILED", "LOST") and row["user_name"] == "ada",
    ),
    (
        Wanted(worker="w4", since=ENDS[100], until=ENDS[300]),
        lambda row: (
            row["worker"] == "w4"
            and ENDS[100] <= row["end_time"] < ENDS[300]
            and row["state"] != "RECALLED"
        ),
    ),
    (Wanted(job_id=3), lambda row: row["job_id"] == 3 and row["state"] != "RECALLED"),
    (Wanted(name="nothing"), lambda row: False),
]


@pytest.mark.parametrize(("wanted", "is_chosen"), CHOICES, ids=range(len(CHOICES)))
def test_the_filters_choose_what_they_say_the_last_end_first(
    questions: Questions, wanted: Wanted, is_chosen: Callable[[dict[str, Any]], bool]
) -> None:
    expected = sorted(
        filter(is_chosen, ATTEMPTS), key=lambda row: (row["end_time"], *key(row)), reverse=True
    )
    everything = questions.list_attempts(wanted, 10_000).rows
    found = [row for row in everything if row["attempt"]]
    assert [key(row) for row in found] == [key(row) for row in expected]
    waited = [row for row in everything if not row["attempt"]]
    ends = sorted((row["end_time"] for row in (*expected, *waited)), reverse=True)
    assert [row["end_time"] for row in questions.list_attempts(wanted, 3).rows] == ends[:3]
    arrays = {row["job_id"] for row in ROWS["jobs"] if row["array"] is not None}
    assert all(row["is_array"] == (row["job_id"] in arrays) for row in found)


ONE = ROWS["cancelled"][0]
WAITED: list[tuple[Wanted, Callable[[dict[str, Any]], bool]]] = [
    (Wanted(), lambda row: True),
    (Wanted(states=("FAILED", "CANCELLED"), source="titan"), lambda row: True),
    (Wanted(states=("COMPLETED", "FAILED", "LOST", "RECALLED", "UNKNOWN")), lambda row: False),
    (Wanted(worker="w4"), lambda row: False),
    (Wanted(source="swf"), lambda row: False),
    (Wanted(user="ada"), lambda row: row["user_name"] == "ada"),
    (Wanted(name=ONE["name"]), lambda row: row["name"] == ONE["name"]),
    (Wanted(job_id=ONE["job_id"]), lambda row: row["job_id"] == ONE["job_id"]),
    (
        Wanted(since=ENDS[100], until=ENDS[300]),
        lambda row: ENDS[100] <= row["end_time"] < ENDS[300],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "is_chosen"), WAITED, ids=range(len(WAITED)))
def test_what_was_cancelled_while_it_waited_is_among_them(
    questions: Questions, wanted: Wanted, is_chosen: Callable[[dict[str, Any]], bool]
) -> None:
    expected = [*filter(is_chosen, ROWS["cancelled"])]
    found = questions.list_attempts(wanted, 10_000).rows
    assert [row["end_time"] for row in found] == sorted(
        (row["end_time"] for row in found), reverse=True
    )
    assert {frozenset(row) for row in found} in ({frozenset(ANSWERED)}, set())
    arrays = {row["job_id"] for row in ROWS["jobs"] if row["array"] is not None}
    waited = [row for row in found if row["attempt"] is None]
    names = ("job_id", "tasks", "reason", "submit_time", "end_time", "cpus", "memory_bytes")
    assert sorted(tuple(row[name] for name in names) for row in waited) == sorted(
        tuple(row[name] for name in names) for row in expected
    )
    for row in waited:
        assert row["index"] == (None if row["job_id"] in arrays else 0)
        assert row["wait_seconds"] == pytest.approx(row["end_time"] - row["submit_time"])
        assert (row["state"], row["source"], row["worker"]) == ("CANCELLED", "titan", None)
        assert {row[name] for name in UNKNOWN_OF_WAITING} == {None}
    assert questions.list_attempts(wanted, 10_000, slowest=True).rows == sorted(
        (row for row in found if row["run_seconds"] is not None),
        key=lambda row: (row["run_seconds"], *key(row)),
        reverse=True,
    )


UNKNOWN_OF_WAITING = (
    "attempt", "worker", "detail", "exit_code", "signal", "start_time", "run_seconds",
    "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "cpu_efficiency",
    "memory_efficiency", "stdout_path", "stderr_path", "source_job",
)  # fmt: skip
ANSWERED = (
    *UNKNOWN_OF_WAITING, "job_id", "index", "name", "user", "state", "reason", "submit_time",
    "end_time", "wait_seconds", "cpus", "memory_bytes", "source", "is_array", "tasks",
)  # fmt: skip


def test_an_array_that_is_cancelled_while_it_waits_is_one_row(
    engine: sa.Engine, store: Store
) -> None:
    lives = Lives()
    job = lives.job((0, 1_000_000, 1))
    lives.apply(ev.CancelRequested(job, (IndexRange(5, 7, 1),), 0))
    lives.apply(ev.CancelRequested(job, (), 0))
    project(store, lives.records)
    reading = open_for_reading(engine.url)
    try:
        found = Questions(reading).list_attempts(Wanted(), 10).rows
    finally:
        reading.dispose()
    assert [(row["job_id"], row["index"], row["tasks"]) for row in found] == [
        (job, None, 999_998),
        (job, None, 2),
    ]


def test_efficiency_is_what_was_used_of_what_was_asked_for(engine: sa.Engine, store: Store) -> None:
    lives = Lives()
    lives.worker()
    # Half of two cpus for ten seconds, and a quarter of its memory; all of one for thirty.
    lives.run(cpus_milli=2000, memory_bytes=4096, seconds=10, user_us=7_000_000, rss_bytes=1024)
    lives.run(cpus_milli=1000, memory_bytes=0, seconds=30, user_us=27_000_000, rss_bytes=5000)
    project(store, lives.records)
    reading = open_for_reading(engine.url)
    try:
        found = Questions(reading).list_attempts(Wanted(), 10).rows
        (total,) = Questions(reading).totals(Wanted(), "user").rows
    finally:
        reading.dispose()
    assert [(row["cpu_efficiency"], row["memory_efficiency"]) for row in found] == [
        (1.0, None),
        (0.5, 0.25),
    ]
    assert total["cpu_hours"] == pytest.approx(50 / 3600)
    assert total["used_cpu_hours"] == pytest.approx(40 / 3600)
    assert total["run_hours"] == pytest.approx(40 / 3600)
    assert (total["cpu_efficiency"], total["memory_efficiency"]) == (0.8, 0.25)


class Lives(Story):
    """A story whose records are kept."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        super().__init__()

    def apply(self, *events: ev.Event, time_us: int | None = None) -> None:
        super().apply(*events, time_us=time_us)
        self.records.append(ev.encode_record(self.state.time_us, events))

    def run(
        self, *, cpus_milli: int, memory_bytes: int, seconds: int, user_us: int, rss_bytes: int
    ) -> None:
        """A job from its submit to its end; it used three seconds in the kernel."""
        job = self.job(cpus_milli=cpus_milli, memory_bytes=memory_bytes)
        self.assign(job)
        end_us = T0 + seconds * 1_000_000
        self.apply(
            ev.AttemptEnded(
                job, 0, 1, State.COMPLETED, Reason.EXIT, 0, -1, T0, end_us, user_us, 3_000_000,
                rss_bytes, "", State.COMPLETED,
            )
        )  # fmt: skip


def test_a_task_that_is_tried_again_waits_from_the_end_of_the_attempt_before(
    engine: sa.Engine, store: Store
) -> None:
    lives = Lives()
    lives.worker()
    job = lives.job(scheduling=Scheduling(retries=2))
    submit_us = lives.state.time_us
    for number, start, end, state in ((1, 4, 10, State.FAILED), (3, 25, 30, State.COMPLETED)):
        if number == 3:
            # It was given a place, and taken back.
            lives.assign(job, attempt=2)
            lives.apply(ev.RecallRequested(job, 0, 2), ev.Recalled(job, 0, 2))
        lives.assign(job, attempt=number)
        lives.apply(
            ev.AttemptEnded(
                job, 0, number, state, Reason.EXIT, 1, -1, submit_us + start * 1_000_000,
                submit_us + end * 1_000_000, 0, 0, 0, "",
                State.PENDING if state == State.FAILED else state,
            )
        )  # fmt: skip
    reading = open_for_reading(engine.url)
    try:
        project(store, lives.records)
        for _ in range(2):
            found = Questions(reading).list_attempts(Wanted(), 10).rows
            assert [(row["attempt"], row["wait_seconds"]) for row in found] == [(3, 15), (1, 4)]
            store.write_anew(place(lives.state.lsn), all_rows(lives.state))
    finally:
        reading.dispose()


def test_the_slowest_ran_longest(questions: Questions) -> None:
    found = [row["run_seconds"] for row in questions.list_attempts(Wanted(), 20, slowest=True).rows]
    ran = [row["run_seconds"] for row in RAN if row["run_seconds"] is not None]
    assert found == sorted(ran, reverse=True)[:20]


@pytest.mark.parametrize("by", ["user", "worker", "day"])
def test_totals_are_sums(questions: Questions, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Days there begin at half past.
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        names: dict[str, Callable[[dict[str, Any]], str]] = {
            "user": lambda row: str(row["user_name"]),
            "worker": lambda row: str(row["worker"]),
            "day": lambda row: time.strftime("%Y-%m-%d", time.localtime(row["end_time"])),
        }
        groups = defaultdict(list)
        for row in RAN:
            groups[names[by](row)].append(row)
        found = questions.totals(Wanted(), by).rows
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {row[by] for row in found} == set(groups)
    for row in found:
        group = groups[row[by]]
        assert row["attempts"] == len(group)
        assert row["completed"] == sum(each["state"] == "COMPLETED" for each in group)
        assert row["failed"] == sum(each["state"] == "FAILED" for each in group)
        cpu_seconds = sum((each["run_seconds"] or 0) * each["cpus"] for each in group)
        assert row["cpu_hours"] == pytest.approx(cpu_seconds / 3600)
        used = sum(each["cpu_user_seconds"] + each["cpu_system_seconds"] for each in group)
        assert row["used_cpu_hours"] == pytest.approx(used / 3600)
    if by == "day":
        assert [row["day"] for row in found] == sorted(groups)
    else:
        assert [row["cpu_hours"] for row in found] == sorted(
            (row["cpu_hours"] for row in found), reverse=True
        )


def test_the_most_failing_names_come_first(questions: Questions) -> None:
    failed: dict[tuple[str, str], int] = defaultdict(int)
    for row in RAN:
        failed[row["name"], row["user_name"]] += row["state"] == "FAILED"
    found = questions.most_failing(Wanted(), 100).rows
    assert {(row["name"], row["user"]): row["failed"] for row in found} == {
        name: count for name, count in failed.items() if count
    }
    assert [row["failed"] for row in found] == sorted(
        (row["failed"] for row in found), reverse=True
    )
    assert len(questions.most_failing(Wanted(), 1).rows) == 1


@pytest.mark.parametrize(
    "wanted", [Wanted(job_id=3), Wanted(since=ENDS[-9]), Wanted(since=ENDS[-9], user="ada")]
)
def test_no_table_of_ends_is_gone_through_for_a_part_of_it(
    questions: Questions, wanted: Wanted
) -> None:
    asked: list[tuple[str, Any]] = []
    with questions.asked() as connection:
        if connection.dialect.name != "sqlite":
            pytest.skip("PostgreSQL plans by how many rows there are")
        engine = connection.engine
    sa.event.listen(
        engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3]))
    )
    questions.list_attempts(wanted, 1000)
    tables = ("FROM attempts", "FROM cancelled")
    queries = [each for each in asked if any(name in each[0] for name in tables)]
    assert len(queries) == 2
    with questions.asked() as connection:
        plans = [
            row[3]
            for query, values in queries
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
        ]
    assert any("SEARCH cancelled" in each for each in plans)
    assert any("SEARCH attempts" in each for each in plans)
    assert not any(each.startswith(("SCAN cancelled", "SCAN attempts")) for each in plans)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(job_id=1 << 63), Wanted(job_id=-(1 << 70)), Wanted(user="a\udcff"),
        Wanted(name="a\0b"), Wanted(worker="\udcff\0"), Wanted(since=1e300), Wanted(until=-1e300),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_no_row_can_have_is_found_nowhere(questions: Questions, wanted: Wanted) -> None:
    assert questions.list_attempts(wanted, 1 << 70).rows == []
    assert questions.most_failing(wanted, 1 << 70).rows == []
    assert questions.totals(wanted, "day").rows == []


def test_tables_that_are_not_there_are_told_in_a_sentence(engine: sa.Engine) -> None:
    reading = open_for_reading(_made(engine).url)
    with pytest.raises(HistoryRefused, match="there is no history yet"):
        Questions(reading).list_attempts(Wanted(), 1)
    reading.dispose()


def _made(engine: sa.Engine) -> sa.Engine:
    """Its file is there."""
    engine.connect().close()
    return engine
