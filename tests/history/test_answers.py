"""Pages of answers, against the same questions asked at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.history.builders import expected_rows, project
from tests.lookback.builders import records as story
from titan.accounting import Wanted
from titan.history import answers
from titan.history.database import open_for_reading
from titan.history.questions import Questions
from titan.history.store import Store
from titan.rpc import history as messages
from titan.rpc.v1 import history_pb2 as pb2

LENGTH = len(story()) // 3
ROWS = expected_rows(story()[:LENGTH])
ENDS = sorted(row["end_time"] for row in ROWS["attempts"])


@pytest.fixture
def questions(
    engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Questions]:
    """Of the beginning of the long story, with small pages."""
    monkeypatch.setattr(answers, "PAGE_BYTES", 2_000)
    project(store, story()[:LENGTH])
    reading = open_for_reading(engine.url)
    yield Questions(reading)
    reading.dispose()


def pages(questions: Questions, wanted: Wanted, **question: object) -> list[messages.Response]:
    """Of an answer, as they come over the wire."""
    request = messages.Request(filter=messages.filter_message(wanted), **question)  # type: ignore[arg-type]
    messages.check_question(request)
    sent = [each.SerializeToString() for each in answers.answer(questions, request)]
    assert max(map(len, sent)) < 4_000
    return list(map(messages.Response.FromString, sent))


def test_lists_come_whole_in_pages(questions: Questions) -> None:
    wanted = Wanted(since=ENDS[10], until=ENDS[-10])
    for limit in (10_000, 7):
        for slowest in (False, True):
            question = pb2.AttemptsQuestion(limit=limit, slowest=slowest)
            found = pages(questions, wanted, attempts=question)
            assert len(found) > 1 or limit == 7
            expected = questions.list_attempts(wanted, limit, slowest=slowest)
            assert messages.attempts_of(found) == expected
            assert expected.more == (limit == 7)
    failing = pages(questions, Wanted(), most_failing=pb2.FailingQuestion(limit=2))
    assert messages.failing_of(failing) == questions.most_failing(Wanted(), 2)
    usage = pages(
        questions, Wanted(since=ENDS[0], until=ENDS[-1]), usage=pb2.UsageQuestion(slots=9)
    )
    assert messages.usage_of(usage) == questions.usage(ENDS[0], ENDS[-1], 9)


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
def test_days_are_those_of_whoever_asks(
    questions: Questions, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for by in ("user", "worker"):
        found = pages(questions, Wanted(), totals=pb2.TotalsQuestion(by=by))
        assert messages.totals_of(found, by) == questions.totals(Wanted(), by)
    asked = pages(questions, Wanted(), totals=pb2.TotalsQuestion(by="day"))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        days_of = messages.totals_of(asked, "day")
        assert days_of == questions.totals(Wanted(), "day")
        days = {time.strftime("%Y-%m-%d", time.localtime(each)) for each in ENDS}
        assert {row["day"] for row in days_of.rows} == days
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_timeline_has_what_overlaps_the_time_and_what_runs(questions: Questions) -> None:
    since, until = ENDS[len(ENDS) // 3], ENDS[-1]
    expected = [
        (row["job_id"], row["task_index"], row["attempt"], row["name"], row["user_name"],
         row["worker"], row["state"], row["start_time"], row["end_time"])
        for row in ROWS["attempts"]
        if row["start_time"] is not None
        and row["state"] != "RECALLED"
        and row["end_time"] >= since
        and row["start_time"] < until
    ]  # fmt: skip
    running = [
        (row["job_id"], row["task_index"], row["attempt"], row["name"], row["user_name"],
         row["worker"], "RUNNING", row["start_time"], None)
        for row in ROWS["running"]
        if row["start_time"] < until
    ]  # fmt: skip
    assert expected
    assert running
    wanted = Wanted(since=since, until=until)
    question = pb2.TimelineQuestion(limit=10_000)
    found = pages(questions, wanted, timeline=question)
    assert len(found) > 1
    assert sorted(bars(found), key=str) == sorted([*expected, *running], key=str)
    some = Wanted(since=since, until=until, states=("FAILED", "RUNNING"), worker="w1")
    assert sorted(bars(pages(questions, some, timeline=question)), key=str) == sorted(
        (bar for bar in [*expected, *running] if bar[5] == "w1" and bar[6] in some.states), key=str
    )
    cut = messages.timeline_of(pages(questions, wanted, timeline=pb2.TimelineQuestion(limit=9)))
    assert (len(cut["bars"]["job"]), cut["more"]) == (9, True)


def bars(found: list[messages.Response]) -> list[tuple[object, ...]]:
    """Each with what it refers to."""
    whole = messages.timeline_of(found)
    columns = whole["bars"]
    assert {len(column) for column in columns.values()} == {len(columns["job"])}
    return [
        (
            whole["jobs"][job]["job_id"], columns["index"][place], columns["attempt"][place],
            whole["jobs"][job]["name"], whole["jobs"][job]["user"],
            whole["workers"][columns["worker"][place]], whole["states"][columns["state"][place]],
            columns["start_time"][place], columns["end_time"][place],
        )
        for place, job in enumerate(columns["job"])
    ]  # fmt: skip
