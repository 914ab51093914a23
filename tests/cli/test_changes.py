"""`titan hold`, `release`, `suspend`, `resume`, `update` and `requeue`."""

from __future__ import annotations

import json

import grpc
import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager, array_of
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2


def add_ended(manager: FakeManager, *, exit_code: int = 0) -> manager_pb2.Job:
    job = manager.add_job()
    manager.run(job)
    manager.end(job, exit_code=exit_code)
    return job


@pytest.mark.parametrize(
    ("command", "word", "method", "is_back"),
    [
        ("hold", "Held", "HoldJob", False),
        ("release", "Released", "HoldJob", True),
        ("suspend", "Suspended", "SuspendJob", False),
        ("resume", "Resumed", "SuspendJob", True),
    ],
)
def test_jobs_are_changed_and_those_that_ended_are_told(
    manager: FakeManager, titan: Titan, command: str, word: str, method: str, is_back: bool
) -> None:
    add_ended(manager)
    manager.add_job(user=os_user())
    result = titan(command, "1", "last")
    assert result == (0, f"Job 1 has ended: COMPLETED\n{word} job 2\n", "")
    (request,) = manager.called(method)
    assert request.user == os_user()
    assert (request.release if method == "HoldJob" else request.resume) is is_back


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("hold", "HoldJob"),
        ("release", "HoldJob"),
        ("suspend", "SuspendJob"),
        ("resume", "SuspendJob"),
        ("update --priority 1", "UpdateJob"),
    ],
)
def test_a_filter_is_sent_in_place_of_jobs(
    manager: FakeManager, titan: Titan, command: str, method: str
) -> None:
    manager.add_job()
    assert titan(*command.split(), "--state", "pending", "--me", "--name", "x").code == 0
    (request,) = manager.called(method)
    assert request.filter.states == [types_pb2.PENDING]
    assert (request.filter.user, request.filter.name) == (os_user(), "x")
    assert titan(*command.split(), "--state", "SCHEDULED").out == "No job matches.\n"


def test_what_is_held_or_suspended_is_seen_in_the_queue(manager: FakeManager, titan: Titan) -> None:
    manager.add_job()
    manager.run(manager.add_job())
    titan("hold", "1", "2")
    titan("suspend", "2")
    held, suspended = titan("queue").out.splitlines()[1:]
    assert "PENDING (held)" in held
    assert "RUNNING (held, suspended)" in suspended


def test_a_change_is_told_as_json(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(priority=4)
    assert json.loads(titan("hold", "1", "--json").out) == [
        {
            "job_id": 1,
            "state": "PENDING",
            "held": True,
            "suspended": False,
            "priority": 4,
            "time_limit_seconds": None,
        }
    ]


def test_an_update_says_what_it_changed(manager: FakeManager, titan: Titan) -> None:
    job = manager.add_job(priority=4)
    assert titan("update", "1", "--priority", "-7").out == "Updated job 1: priority -7\n"
    assert titan("update", "1", "--time-limit", "90m").out == "Updated job 1: time limit 1h30m\n"
    assert (job.priority, job.time_limit_ms) == (-7, 5_400_000)
    result = titan("update", "1", "--time-limit", "none", "--priority", "0")
    assert result.out == "Updated job 1: priority 0, no time limit\n"
    assert (job.priority, job.time_limit_ms) == (0, 0)
    first, second, _ = manager.called("UpdateJob")
    assert (first.HasField("time_limit_ms"), second.HasField("priority")) == (False, False)


def test_a_requeue_says_where_each_job_is_now(manager: FakeManager, titan: Titan) -> None:
    manager.run(manager.add_job())
    add_ended(manager, exit_code=1)
    array = manager.add_job(array=array_of((0, 3)))
    for index, code in enumerate((1, 0, 1)):
        manager.run(array, index)
        manager.end(array, index, exit_code=code)
    result = titan("requeue", "1", "2", "3", "--grace", "1m", "--request-id", "again")
    assert result.code == 0
    assert result.out.splitlines() == [
        "Requeued job 1",
        "Submitted job 4, again what job 2 was",
        "Submitted job 5: the 2 tasks of job 3 that did not complete",
    ]
    assert manager.called("RequeueJob")[0].grace_ms == 60_000
    assert json.loads(titan("requeue", "1", "2", "3", "--request-id", "again", "--json").out) == [
        {"job_id": 1, "state": "PENDING", "submitted_again": None},
        {"job_id": 2, "state": "PENDING", "submitted_again": 4},
        {"job_id": 3, "state": "PENDING", "submitted_again": 5},
    ]


def test_a_job_of_which_nothing_is_left_to_run_is_refused(
    manager: FakeManager, titan: Titan
) -> None:
    add_ended(manager)
    manager.fail("RequeueJob", grpc.StatusCode.FAILED_PRECONDITION, "job 1 completed")
    result = titan("requeue", "1")
    assert (result.code, result.out, result.err) == (5, "", "titan: job 1 completed\n")


def test_a_requeue_of_one_task_says_so(manager: FakeManager, titan: Titan) -> None:
    array = manager.add_job(array=array_of((0, 1)))
    manager.run(array)
    manager.end(array, exit_code=1)
    assert titan("requeue", "1").out == (
        "Submitted job 2: the task of job 1 that did not complete\n"
    )


def test_tasks_of_an_array_are_requeued_by_index(manager: FakeManager, titan: Titan) -> None:
    manager.run(manager.add_job(array=array_of((0, 9))), 3)
    assert titan("requeue", "1.3-5").out == "Requeued job 1\n"
    (selector,) = manager.called("RequeueJob")[0].jobs
    assert (selector.indexes[0].start, selector.indexes[0].stop) == (3, 6)


def test_a_requeue_without_an_answer_says_how_to_repeat_it(
    manager: FakeManager, titan: Titan
) -> None:
    manager.run(manager.add_job())
    manager.fail("RequeueJob", grpc.StatusCode.UNAVAILABLE, "cut off", count=99)
    result = titan("requeue", "1", "--retry-for", "200ms", "--request-id", "00" * 16)
    assert result.code == 3
    assert f"safe to repeat with --request-id {'00' * 16}" in result.err


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("hold", "one of both"),
        ("hold 1 --me", "one of both"),
        ("release 1.3", "as a whole: write 1"),
        ("suspend --me --user ada", "two users"),
        ("resume x", "is no job"),
        ("update 1", "--priority, --time-limit or both"),
        ("update 1 --time-limit 0", "none to lift it"),
        ("update 1 --time-limit soon", "'soon' is no duration"),
        ("update 1 --priority 3000000000", "a priority of"),
        ("requeue", "JOB"),
        ("requeue 1 --grace 3", "unit"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    manager: FakeManager, titan: Titan, line: str, hint: str
) -> None:
    manager.add_job()
    result = titan(*line.split())
    assert result.code == 2
    assert hint in result.err
    assert not manager.calls


@pytest.mark.parametrize(
    "line", ["hold 9", "release 9", "suspend 9", "resume 9", "update 9 --priority 1", "requeue 9"]
)
def test_a_job_that_is_not_there_exits_with_4(
    manager: FakeManager, titan: Titan, line: str
) -> None:
    result = titan(*line.split())
    assert (result.code, result.out) == (4, "")
    assert "there is no job 9" in result.err
