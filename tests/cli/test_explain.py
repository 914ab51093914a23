"""Explanations in lines: what `titan why` and `titan plan` print."""

from __future__ import annotations

from typing import Any

import pytest

from titan.cli.explain import about_text, plan_lines, why_lines
from titan.cli.text import local_time
from titan.rpc.v1 import manager_pb2, types_pb2

NOW = 1_700_000_000.0
PLAIN = manager_pb2.Job(job_id=42, name="train")
ARRAY = manager_pb2.Job(
    job_id=42, name="train", array=[types_pb2.IndexRange(start=0, stop=9, step=1)]
)

Away = manager_pb2.WorkersTurnedAway


def waiting(
    verdict: manager_pb2.Verdict.ValueType = manager_pb2.VERDICT_LATER, **fields: Any
) -> manager_pb2.Explanation:
    given: dict[str, Any] = {
        "job_id": 42,
        "state": types_pb2.PENDING,
        "sentence": "0 of 12 workers can take it now",
        "workers": 12,
        **fields,
    }
    return manager_pb2.Explanation(verdict=verdict, **given)


def candidate(name: str, cpus_milli: int, *, chosen: bool = False) -> manager_pb2.Candidate:
    return manager_pb2.Candidate(
        worker=name,
        free=types_pb2.Resources(cpus_milli=cpus_milli, memory_bytes=7 << 30),
        had_room=cpus_milli >= 1000,
        chosen=chosen,
    )


def why(explanation: manager_pb2.Explanation, job: manager_pb2.Job = PLAIN) -> list[str]:
    return list(why_lines(explanation, job, NOW))


def test_a_task_that_waits_for_room_is_told_who_lacks_what_and_when_it_could_start() -> None:
    explanation = waiting(
        turned_away=[
            Away(workers=7, why="lack memory (needs 64 GiB, largest free 31 GiB)"),
            Away(workers=3, why="have no gpu", never=True),
            Away(workers=2, why="drain"),
        ],
        tasks_ahead=41,
        start_us=int((NOW + 240) * 1e6),
        worker="w2",
        ends_job_id=39,
    )
    assert why(explanation) == [
        "42 (train) PENDING: 0 of 12 workers can take it now",
        "  7 lack memory (needs 64 GiB, largest free 31 GiB)",
        "  2 drain",
        "  3 have no gpu: never, even when empty",
        "41 tasks ahead; could start in about 4 min when 39 ends on w2",
    ]


def test_a_task_of_an_array_is_named_by_its_index() -> None:
    assert why(waiting(index=7), ARRAY)[0].startswith("42.7 (train) PENDING: ")
    assert why(waiting(index=0), ARRAY)[0].startswith("42.0 (train) PENDING: ")


@pytest.mark.parametrize(
    ("workers", "last"),
    [
        (0, "never: there is no worker that it could run on"),
        (1, "never: not on the worker, even when empty"),
        (12, "never: not on any of the 12 workers, even when empty"),
    ],
)
def test_never_is_told_apart_from_later(workers: int, last: str) -> None:
    explanation = waiting(
        manager_pb2.VERDICT_NEVER,
        workers=workers,
        turned_away=[Away(workers=workers, why="have 4 cpus at most", never=True)],
        tasks_ahead=3,
    )
    assert why(explanation)[-2:] == [
        f"  {workers} have 4 cpus at most: never, even when empty",
        last,
    ]


def test_what_can_never_start_for_another_reason_is_not_blamed_on_the_workers() -> None:
    explanation = waiting(
        manager_pb2.VERDICT_NEVER,
        sentence="it could not end by its deadline and would be cancelled",
        turned_away=[Away(workers=3, why="have no gpu", never=True)],
    )
    assert why(explanation)[1:] == ["  3 have no gpu: never, even when empty"]


def test_what_it_waits_for_besides_room_comes_first() -> None:
    explanation = waiting(
        sentence="held by ada",
        waiting_for=["release by ada", "job 41, which is RUNNING"],
        turned_away=[Away(workers=1, why="drains")],
    )
    assert why(explanation)[1:] == [
        "  waits for: release by ada",
        "  waits for: job 41, which is RUNNING",
        "  1 drains",
    ]


def test_a_start_that_cannot_be_told_says_so() -> None:
    assert why(waiting(tasks_ahead=1))[-1] == (
        "1 task ahead; when it could start is not known: no time limits tell"
    )


def test_what_can_start_now_has_no_more_to_tell_than_who_goes_first() -> None:
    explanation = waiting(manager_pb2.VERDICT_NOW, sentence="it is next to be placed")
    assert why(explanation) == ["42 (train) PENDING: it is next to be placed"]
    explanation.tasks_ahead = 2
    assert why(explanation)[1:] == ["2 tasks ahead"]


def test_one_that_ended_without_a_worker_is_its_sentence() -> None:
    explanation = manager_pb2.Explanation(
        job_id=42,
        state=types_pb2.CANCELLED,
        verdict=manager_pb2.VERDICT_ENDED,
        sentence="cancelled before it was placed",
    )
    assert why(explanation) == ["42 (train) CANCELLED: cancelled before it was placed"]


def test_a_placed_task_is_told_when_where_by_what_and_among_whom() -> None:
    explanation = manager_pb2.Explanation(
        job_id=42,
        index=3,
        state=types_pb2.RUNNING,
        verdict=manager_pb2.VERDICT_PLACED,
        sentence="placed on w2, whose turn it was",
        worker="w2",
        attempt=1,
        assigned_us=int(NOW * 1e6),
        assigned_lsn=7,
        policy="round-robin",
        policy_version=1,
        rule="round-robin",
        candidates=[candidate("w1", 500), candidate("w2", 2000, chosen=True)],
    )
    explanation.candidates[1].free.named["gpu"] = 1
    assert why(explanation, ARRAY) == [
        "42.3 (train) RUNNING: placed on w2, whose turn it was",
        "worker       w2",
        f"placed       {local_time(NOW)} (LSN 7)",
        "attempt      1",
        "policy       round-robin, version 1",
        "rule         round-robin",
        "",
        "   WORKER  FREE CPUS  FREE MEMORY  FREE RESOURCES  HAD ROOM",
        "   w1            0.5           7G  -               no",
        "*  w2              2           7G  gpu=1           yes",
    ]


@pytest.mark.parametrize(
    ("verdict", "would"),
    [
        (manager_pb2.VERDICT_NOW, "would start now"),
        (manager_pb2.VERDICT_LATER, "would wait"),
        (manager_pb2.VERDICT_NEVER, "could never start"),
        (manager_pb2.VERDICT_UNSPECIFIED, "could not be planned"),
    ],
)
def test_a_plan_begins_with_what_would_become_of_it(
    verdict: manager_pb2.Verdict.ValueType, would: str
) -> None:
    explanation = waiting(verdict, job_id=0, state=0, sentence="so it is")
    assert next(plan_lines(explanation, "train", NOW)) == f"train {would}: so it is"


def test_a_plan_that_has_room_tells_where_it_would_go() -> None:
    explanation = waiting(
        manager_pb2.VERDICT_NOW,
        worker="w1",
        policy="spread",
        rule="best",
        candidates=[candidate("w1", 2000, chosen=True)],
    )
    assert list(plan_lines(explanation, "train", NOW))[1:4] == [
        "worker       w1",
        "policy       spread",
        "rule         best",
    ]


def test_words_of_others_cannot_speak_to_the_terminal() -> None:
    job = manager_pb2.Job(name="\x1b[2Jboo")
    explanation = waiting(
        sentence="a\nb",
        waiting_for=["c\x9b"],
        turned_away=[Away(workers=1, why="d\r")],
        worker="\x1bw",
        start_us=1,
        policy="p\x07",
        candidates=[candidate("\x1b[2J", 1)],
    )
    text = "".join([*why_lines(explanation, job, NOW), *plan_lines(explanation, job.name, NOW)])
    assert not set(text) & set("\x1b\n\x9b\r\x07")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "any moment"),
        (0, "any moment"),
        (0.2, "in about 1 s"),
        (89, "in about 89 s"),
        (90, "in about 2 min"),
        (240, "in about 4 min"),
        (5399, "in about 90 min"),
        (5400, "in about 2 h"),
        (129_599, "in about 36 h"),
        (129_600, "in about 2 d"),
    ],
)
def test_a_time_is_told_about_as_exactly_as_it_is_known(seconds: float, text: str) -> None:
    assert about_text(seconds) == text
