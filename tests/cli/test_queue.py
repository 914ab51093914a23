"""`titan queue`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import FakeManager, array_of
from titan.cli.queue import queue_row
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2


def test_the_columns_are_those_that_scripts_know(manager: FakeManager, titan: Titan) -> None:
    job = manager.add_job(name="train", array=array_of((0, 60)), priority=7)
    job.resources.cpus_milli, job.resources.memory_bytes = 500, 2**30
    manager.run(job, 3)
    manager.end(job, 3)
    manager.add_job(name="wait", waiting_for="2 cpus")
    heading, first, second = titan("queue").out.splitlines()
    assert heading.split() == [
        *("JOB", "NAME", "USER", "STATE", "TASKS", "CPUS", "MEMORY", "PRIORITY", "AGE"),
        "WORKER/REASON",
    ]
    assert first.split()[:8] == ["1", "train", "alice", "RUNNING", "1/60", "0.5", "1G", "7"]
    assert second.split()[-2:] == ["2", "cpus"]


def test_a_job_that_is_being_cancelled_says_so() -> None:
    job = manager_pb2.Job(state=types_pb2.RUNNING, cancel_requested=True, submit_us=1)
    assert queue_row(job, now=1.0)[3] == "RUNNING (cancelling)"
    ended = manager_pb2.Job(state=types_pb2.CANCELLED, cancel_requested=True, submit_us=1)
    assert queue_row(ended, now=1.0)[3] == "CANCELLED"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": types_pb2.PENDING, "scheduling": {"held": True}}, "PENDING (held)"),
        ({"state": types_pb2.RUNNING, "suspended": True}, "RUNNING (suspended)"),
        (
            {"state": types_pb2.RUNNING, "suspended": True, "cancel_requested": True},
            "RUNNING (cancelling, suspended)",
        ),
        ({"state": types_pb2.COMPLETED, "scheduling": {"held": True}}, "COMPLETED"),
        ({"state": types_pb2.CANCELLED, "suspended": True}, "CANCELLED"),
    ],
)
def test_a_job_that_is_held_or_suspended_says_so(fields: dict[str, Any], text: str) -> None:
    assert queue_row(manager_pb2.Job(submit_us=1, **fields), now=1.0)[3] == text


def test_a_task_that_is_to_be_tried_again_is_told_what_it_waits_for_not_where_it_was() -> None:
    again = "its next attempt in 8s"
    job = manager_pb2.Job(state=types_pb2.PENDING, worker="w1", waiting_for=again)
    assert queue_row(job, now=1.0)[-1] == again


def test_names_of_others_cannot_speak_to_the_terminal(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(name="\x1b[2Jboo\nfoo\x9b", user="\u202emallory")
    out = titan("queue").out
    assert len(out.splitlines()) == 2
    assert "\\x1b[2Jboo\\nfoo\\x9b" in out
    assert "\\u202emallory" in out


def test_nothing_is_cut_where_it_is_no_terminal(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    manager.add_job(name="x" * 300, waiting_for="y" * 300)
    out = titan("queue").out
    assert "x" * 300 in out
    assert "y" * 300 in out
    assert "\x1b" not in out


def test_ended_jobs_are_listed_only_when_asked_for(manager: FakeManager, titan: Titan) -> None:
    for name in ("good", "bad", "waiting"):
        manager.add_job(name=name)
    manager.run(manager.jobs[1])
    manager.end(manager.jobs[1])
    manager.run(manager.jobs[2])
    manager.end(manager.jobs[2], exit_code=1)

    def names(*arguments: str) -> list[str]:
        return [job["name"] for job in json.loads(titan("queue", "--json", *arguments).out)]

    assert names() == ["waiting"]
    assert names("--all") == ["waiting", "bad", "good"]
    assert names("--all", "--limit", "2") == ["waiting", "bad"]
    assert names("--state", "failed") == ["bad"]
    assert names("--state", "FAILED", "--state", "completed") == ["bad", "good"]
    assert names("--name", "nobody") == []
    assert "exit code 1" in titan("queue", "--state", "FAILED").out


def test_users_are_filtered_by_name_or_by_me(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(user="bob")
    manager.add_job(user=os_user())
    assert [job["user"] for job in json.loads(titan("queue", "--me", "--json").out)] == [os_user()]
    assert len(json.loads(titan("queue", "--user", "bob", "--json").out)) == 1
    assert titan("queue", "--me", "--user", "bob").code == 2


def test_that_there_are_more_is_told_beside_the_list(manager: FakeManager, titan: Titan) -> None:
    for _ in range(3):
        manager.add_job()
    result = titan("queue", "--limit", "2")
    assert len(result.out.splitlines()) == 3
    assert "more than 2 jobs" in result.err


def test_an_empty_queue_is_its_heading_or_an_empty_list(manager: FakeManager, titan: Titan) -> None:
    assert len(titan("queue").out.splitlines()) == 1
    assert titan("queue", "--json").out == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["--state", "ASLEEP"], ["--limit", "0"], ["-w", "--json"], ["extra"]]
)
def test_what_makes_no_sense_is_a_usage_error(
    manager: FakeManager, titan: Titan, arguments: list[str]
) -> None:
    assert titan("queue", *arguments).code == 2


def test_a_watched_queue_is_shown_again_at_a_change(
    manager: FakeManager, spawn: Callable[..., Process]
) -> None:
    manager.add_job()
    process = spawn("queue", "-w")
    assert process.read_line().startswith("JOB")
    assert "PENDING" in process.read_line()
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    manager.run(manager.jobs[1])
    seen = ""
    while "RUNNING" not in seen:
        seen = process.read_line()
    process.interrupt(2)
    result = process.end()
    assert result.code == 130
    assert result.err == ""
