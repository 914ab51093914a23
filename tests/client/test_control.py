"""Jobs that are steered, the policy, and the questions what decides: over the real wire."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import titan
from tests.client.fake_manager import PAST_LSN, FakeManager, array_of
from titan.client import requests, views
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2

CHANGE_FIELDS = ["job_id", "state", "held", "suspended", "priority", "time_limit_seconds"]
EXPLANATION_FIELDS = """
    job_id index state verdict sentence waiting_for workers workers_with_room turned_away
    tasks_ahead start_time worker ends_job_id attempt assigned_time assigned_lsn policy
    policy_version rule candidates
""".split()  # noqa: SIM905 - as a table


@pytest.fixture
def client(manager: FakeManager) -> Iterator[titan.Client]:
    with titan.Client() as client:
        yield client


def test_jobs_are_held_and_released_by_name_or_filter(
    manager: FakeManager, client: titan.Client
) -> None:
    job, _ = manager.add_job(), manager.add_job()
    (held,) = client.hold(1)
    assert list(held) == CHANGE_FIELDS
    assert (held["job_id"], held["state"], held["held"]) == (1, "PENDING", True)
    (request,) = manager.called("HoldJob")
    assert (request.user, request.release, request.HasField("filter")) == (os_user(), False, False)
    assert [each["held"] for each in client.release(state=["PENDING"])] == [False, False]
    assert manager.called("HoldJob")[1].filter.states == [types_pb2.PENDING]
    assert not job.scheduling.held
    assert client.job(1).hold()["held"]
    assert not client.job(1).release()["held"]


def test_jobs_are_suspended_and_resumed(manager: FakeManager, client: titan.Client) -> None:
    manager.run(manager.add_job(user="alice"))
    (suspended,) = client.suspend("1")
    assert (suspended["state"], suspended["suspended"]) == ("RUNNING", True)
    assert not client.resume("1")[0]["suspended"]
    assert client.job(1).suspend()["suspended"]
    assert not client.job(1).resume()["suspended"]
    assert [each.resume for each in manager.called("SuspendJob")] == [False, True] * 2


def test_an_update_changes_what_is_named_only(manager: FakeManager, client: titan.Client) -> None:
    manager.add_job(priority=3)
    (changed,) = client.update(1, time_limit="1h30m")
    assert (changed["priority"], changed["time_limit_seconds"]) == (3, 5400)
    first = manager.called("UpdateJob")[0]
    assert (first.HasField("priority"), first.time_limit_ms) == (False, 5_400_000)
    changed = client.job(1).update(priority=-7, time_limit="none")
    assert (changed["priority"], changed["time_limit_seconds"]) == (-7, None)
    assert manager.called("UpdateJob")[1].HasField("time_limit_ms")


def test_what_has_ended_is_told_as_it_was(manager: FakeManager, client: titan.Client) -> None:
    job = manager.add_job(priority=3)
    manager.run(job)
    manager.end(job)
    assert client.update(1, priority=9) == [
        {
            "job_id": 1,
            "state": "COMPLETED",
            "held": False,
            "suspended": False,
            "priority": 3,
            "time_limit_seconds": None,
        }
    ]


def test_a_requeue_puts_back_what_runs_and_submits_again_what_ended(
    manager: FakeManager, client: titan.Client
) -> None:
    running, ended = manager.add_job(), manager.add_job(array=array_of((0, 2)))
    manager.run(running)
    for index, code in ((0, 0), (1, 1)):
        manager.run(ended, index)
        manager.end(ended, index, exit_code=code)
    assert client.requeue(1, "2", grace="3s", request_id="again") == [
        {"job_id": 1, "state": "PENDING", "submitted_again": None},
        {"job_id": 2, "state": "PENDING", "submitted_again": 3},
    ]
    request = manager.called("RequeueJob")[0]
    assert (request.grace_ms, request.user, len(request.request_id)) == (3000, os_user(), 16)
    assert client.requeue(1, 2, request_id="again")[1]["submitted_again"] == 3
    assert client.job(2).requeue()["submitted_again"] == 4


def test_a_requeue_without_an_answer_is_repeated_with_its_id(
    manager: FakeManager, client: titan.Client
) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.end(job, exit_code=1)
    manager.fail("RequeueJob", grpc.StatusCode.UNAVAILABLE, "cut off", count=2)
    assert client.requeue(1)[0]["submitted_again"] == 2
    assert len({each.request_id for each in manager.called("RequeueJob")}) == 1
    assert len(manager.jobs) == 2


def test_why_is_asked_of_a_task_now_and_then(manager: FakeManager, client: titan.Client) -> None:
    manager.add_job(array=array_of((0, 9)))
    manager.explanation.verdict = manager_pb2.VERDICT_LATER
    assert client.why("1.7")["verdict"] == "LATER"
    assert client.job(1).why(3)["job_id"] == 1
    assert client.why(1, at=PAST_LSN)["job_id"] == 1
    one, other, past = manager.called("ExplainJob")
    assert [each.job.indexes[0].start for each in (one, other)] == [7, 3]
    assert not one.HasField("at")
    assert past.at.lsn == PAST_LSN


def test_a_plan_sends_the_job_and_submits_nothing(
    manager: FakeManager, client: titan.Client
) -> None:
    manager.explanation.verdict = manager_pb2.VERDICT_NEVER
    view = client.plan(titan.JobSpec(command=["train"], cpus=64))
    assert (view["verdict"], view["job_id"], view["index"]) == ("NEVER", None, None)
    (request,) = manager.called("PlanJobs")
    assert (request.user, request.jobs[0].resources.cpus_milli) == (os_user(), 64_000)
    assert not manager.jobs


def test_the_policy_is_told_and_set(manager: FakeManager, client: titan.Client) -> None:
    assert client.policy() == {
        "placement": "round-robin-then-bin-packing",
        "order": "easy",
        "fair_share": False,
        "preempt": "off",
        "reserve_after_seconds": 60.0,
        "user_limits": {},
        "was_set": False,
    }
    view = client.set_policy(
        order="fcfs",
        fair_share=True,
        reserve_after="2m",
        user_limits={"ada": "2.5", "": 8, "bob": None},
    )
    assert (view["order"], view["fair_share"], view["was_set"]) == ("fcfs", True, True)
    assert view["user_limits"] == {"": 8, "ada": 2.5, "bob": None}
    (request,) = manager.called("SetPolicy")
    assert (request.user, request.reserve_after_ms) == (os_user(), 120_000)
    assert not request.HasField("placement")
    assert not request.HasField("preempt")


def test_a_name_that_the_manager_does_not_know_is_an_invalid_job(
    manager: FakeManager, client: titan.Client
) -> None:
    manager.fail("SetPolicy", grpc.StatusCode.INVALID_ARGUMENT, "there is no order 'best'")
    with pytest.raises(titan.InvalidJob, match="no order 'best'"):
        client.set_policy(order="best")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda c: c.hold(), "one of both"),
        (lambda c: c.hold(1, user="ada"), "or filter them, one of both"),
        (lambda c: c.hold("1.7"), "as a whole: write 1"),
        (lambda c: c.update(1), "nothing to change"),
        (lambda c: c.update(1, priority=2**31), "a priority of"),
        (lambda c: c.update(1, time_limit=0), "none to lift it"),
        (lambda c: c.update(1, time_limit="4000d"), "3650d"),
        (lambda c: c.requeue(), "name the jobs"),
        (lambda c: c.requeue("x y"), "is no job"),
        (lambda c: c.why("nonsense"), "'nonsense' is no job"),
        (lambda c: c.set_policy(), "nothing to set"),
        (lambda c: c.set_policy(user_limits={"ada": "x"}), "no number of cpus"),
        (lambda c: c.set_policy(user_limits={"ada": -1}), "cpus"),
        (lambda c: c.set_policy(reserve_after="5"), "unit"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    manager: FakeManager, client: titan.Client, call: Any, match: str
) -> None:
    with pytest.raises(titan.InvalidJob, match=match):
        call(client)
    assert not manager.calls


def test_setting_something_to_nothing_is_a_change() -> None:
    request = requests.policy_request(user="ada", fair_share=False, reserve_after=0)
    assert (request.HasField("fair_share"), request.HasField("reserve_after_ms")) == (True, True)


def test_an_explanation_has_exactly_its_fields_in_order() -> None:
    view = views.explanation_view(manager_pb2.Explanation())
    assert list(view) == EXPLANATION_FIELDS
    empty = {key: value for key, value in view.items() if value is not None}
    assert empty == {
        "sentence": "",
        "waiting_for": [],
        "workers": 0,
        "workers_with_room": 0,
        "turned_away": [],
        "tasks_ahead": 0,
        "candidates": [],
    }


def test_an_explanation_is_told_in_the_units_of_json() -> None:
    view = views.explanation_view(
        manager_pb2.Explanation(
            job_id=42,
            state=types_pb2.RUNNING,
            verdict=manager_pb2.VERDICT_PLACED,
            turned_away=[manager_pb2.WorkersTurnedAway(workers=3, why="have no gpu", never=True)],
            start_us=1_500_000,
            assigned_us=2_500_000,
            assigned_lsn=7,
            candidates=[
                manager_pb2.Candidate(
                    worker="w1",
                    free=types_pb2.Resources(cpus_milli=500, memory_bytes=9, named={"gpu": 1}),
                    chosen=True,
                )
            ],
        )
    )
    assert (view["index"], view["state"], view["verdict"]) == (0, "RUNNING", "PLACED")
    assert view["turned_away"] == [{"workers": 3, "why": "have no gpu", "never": True}]
    assert (view["start_time"], view["assigned_time"], view["assigned_lsn"]) == (1.5, 2.5, 7)
    assert view["candidates"] == [
        {
            "worker": "w1",
            "free": {"cpus": 0.5, "memory_bytes": 9, "resources": {"gpu": 1}},
            "had_room": False,
            "chosen": True,
        }
    ]
    assert json.loads(json.dumps(view)) == view


def test_a_verdict_of_a_newer_manager_is_shown_all_the_same() -> None:
    assert views.verdict_name(manager_pb2.VERDICT_ENDED) == "ENDED"
    assert views.verdict_name(99) == "UNKNOWN_99"


def test_the_other_client_does_the_same(manager: FakeManager) -> None:
    manager.run(manager.add_job())
    manager.explanation.verdict = manager_pb2.VERDICT_NOW

    async def story() -> None:
        async with titan.AsyncClient() as client:
            job = client.job(1)
            assert (await job.hold())["held"]
            assert not (await job.release())["held"]
            assert (await job.suspend())["suspended"]
            assert not (await job.resume())["suspended"]
            assert (await job.update(priority=4))["priority"] == 4
            assert (await job.requeue())["submitted_again"] is None
            assert (await job.why(0))["verdict"] == "NOW"
            assert (await client.plan(titan.JobSpec(command=["true"])))["verdict"] == "NOW"
            assert (await client.set_policy(order="skip"))["order"] == "skip"
            assert (await client.policy())["was_set"]
            assert [each["held"] for each in await client.hold(state=["PENDING"])] == [True]

    asyncio.run(story())
    assert [name for name, _ in manager.calls] == [
        *("HoldJob", "HoldJob", "SuspendJob", "SuspendJob", "UpdateJob", "RequeueJob"),
        *("ExplainJob", "PlanJobs", "SetPolicy", "GetPolicy", "HoldJob"),
    ]
