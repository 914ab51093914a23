"""When and where tasks may run, as people ask for it."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from titan.client.jobspec import JobSpec, to_message
from titan.client.scheduling import after_texts, scheduling_view
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2


def test_a_job_that_asks_for_nothing_sends_nothing() -> None:
    assert not to_message(JobSpec(command=["x"])).HasField("scheduling")


def test_everything_that_is_asked_for_is_in_the_message() -> None:
    message = to_message(
        JobSpec(
            command=["x"],
            array="0-9%4",
            constraints=["zone==a and disk!=hdd", "os in (x,y)"],
            spread="rack",
            exclusive=True,
            retries=3,
            retry_on=[75, 1, 75],
            max_fails=0,
            begin=datetime(2100, 1, 1, tzinfo=UTC),
            deadline=4_200_000_000.5,
            preemptible=True,
            hold=True,
        )
    )
    asked = message.scheduling
    assert [(part.start, part.stop) for part in message.array] == [(0, 10)]
    assert asked.array_limit == 4
    assert [(c.label, list(c.values), c.negated) for c in asked.constraints] == [
        ("zone", ["a"], False),
        ("disk", ["hdd"], True),
        ("os", ["x", "y"], False),
    ]
    assert (asked.spread, asked.exclusive) == ("rack", True)
    assert (asked.retries, list(asked.retry_on)) == (3, [1, 75])
    assert asked.HasField("max_fails")
    assert asked.max_fails == 0
    assert (asked.begin_us, asked.deadline_us) == (4_102_444_800_000_000, 4_200_000_000_500_000)
    assert asked.preemptible
    assert asked.held


def test_what_runs_at_most_once_has_no_retries() -> None:
    assert to_message(JobSpec(command=["x"], at_most_once=True)).scheduling.at_most_once
    with pytest.raises(InvalidJob, match="at most once is not tried again: give no retries"):
        to_message(JobSpec(command=["x"], at_most_once=True, retries=1))


def test_an_array_of_any_indexes_is_limited_beside_it() -> None:
    message = to_message(JobSpec(command=["x"], array=range(5), array_limit=2))
    assert message.scheduling.array_limit == 2
    assert not to_message(JobSpec(command=["x"], array="0-4")).scheduling.array_limit


def test_a_time_to_come_may_be_a_text() -> None:
    before = time.time()
    asked = to_message(JobSpec(command=["x"], begin="now+1h", deadline="2h")).scheduling
    assert before + 3600 <= asked.begin_us / 1e6 <= time.time() + 3600
    assert before + 7200 <= asked.deadline_us / 1e6 <= time.time() + 7200


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"constraints": "zone=a"}, "write zone==a, with two ="),
        ({"constraints": ["zone==a", "x"]}, "'x' is no constraint"),
        ({"spread": ""}, "names no label"),
        ({"spread": "zone=a"}, "names no label"),
        ({"retries": -1}, "give 0 to 1000"),
        ({"retries": 1001}, "give 0 to 1000"),
        ({"retries": 1, "retry_on": [256]}, "exit codes are 0 to 255"),
        ({"retries": 1, "retry_on": [-1]}, "exit codes are 0 to 255"),
        ({"retry_on": [1]}, "say with retries how often"),
        ({"max_fails": 1}, "needs an array"),
        ({"max_fails": -1, "array": "0-9"}, "allows no failure"),
        ({"array_limit": 2}, "needs an array"),
        ({"array": "0-9", "array_limit": 0}, "no task would ever start"),
        ({"array": "0-9%0"}, "no task would ever start"),
        ({"array": "0-9%3", "array_limit": 2}, "limited to 3 and to 2"),
        ({"array": "0-9%3", "array_limit": 2**40}, "limited to 3"),
        ({"array": "0-9", "array_limit": 2**40}, "give 1 or more"),
        ({"array": "0-9%"}, "write it as 0-9%50"),
        ({"array": "0-9%x"}, "write it as 0-9%50"),
        ({"array": "%5"}, "no array"),
        ({"begin": "soon"}, "begin: 'soon' is no time: write it as now\\+1h"),
        ({"begin": 0}, "begin: 0 is no time"),
        ({"deadline": float("nan")}, "deadline: nan is no time"),
        ({"deadline": float("inf")}, "deadline: inf is no time"),
        ({"deadline": 1.0}, r"the deadline, (1970-01-01|1969-12-31) .*, has passed already"),
        ({"begin": 9e12}, "up to the year 9999"),
        ({"begin": 253402300799, "deadline": 253402300798}, "has to come after the begin"),
        ({"begin": "2h", "deadline": "1h"}, "the deadline has to come after the begin"),
    ],
)
def test_what_makes_no_sense_is_said(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidJob, match=why):
        to_message(JobSpec(command=["true"], **fields))


def test_a_job_is_shown_with_what_it_asked_for() -> None:
    def reference(job_id: int) -> manager_pb2.JobReference:
        return manager_pb2.JobReference(job=manager_pb2.JobSelector(job_id=job_id))

    asked = manager_pb2.Scheduling(
        constraints=[manager_pb2.LabelConstraint(label="zone", values=["a", "b"])],
        affinities=[
            manager_pb2.JobAffinity(job=reference(7)),
            manager_pb2.JobAffinity(job=reference(9), anti=True),
        ],
        after=[
            manager_pb2.Dependency(job=reference(3), condition=manager_pb2.DEPENDENCY_ANY, index=0),
            manager_pb2.Dependency(job=reference(4), same_index=True),
        ],
        array_limit=5,
        max_fails=0,
        begin_us=1_500_000,
    )
    view = scheduling_view(manager_pb2.Job(job_id=9, scheduling=asked, suspended=True))
    assert view == {
        "after": [
            {"job_id": 3, "condition": "any", "index": 0, "same_index": False},
            {"job_id": 4, "condition": "ok", "index": None, "same_index": True},
        ],
        "constraints": ["zone in (a,b)"],
        "affinity": ["7"],
        "anti_affinity": ["self"],
        "spread": None,
        "exclusive": False,
        "array_limit": 5,
        "max_fails": 0,
        "begin_time": 1.5,
        "deadline_time": None,
        "preemptible": False,
        "at_most_once": False,
        "held": False,
        "suspended": True,
    }
    assert after_texts(asked.after) == ["3.0:any", "4.%i"]
