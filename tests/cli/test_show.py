"""`titan show`, `cancel`, `workers`, `stats`."""

import json
import re

import grpc
import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager, array_of
from titan.cli.show import event_words
from titan.cli.text import local_time
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2


@pytest.fixture
def failed(manager: FakeManager) -> manager_pb2.Job:
    """An array of three of which one failed."""
    job = manager.add_job(name="train", array=array_of((0, 3)), cwd=b"/data")
    for index in range(3):
        manager.run(job, index)
        manager.write(job, b"line %d\n" % index, index, err=True)
        manager.end(job, index, exit_code=int(index == 1))
    return job


def test_a_job_is_shown_with_its_attempts(failed: manager_pb2.Job, titan: Titan) -> None:
    result = titan("show", "1")
    assert (result.code, result.err) == (0, "")
    lines = dict(
        line.split(maxsplit=1) for line in result.out.splitlines()[:12] if len(line.split()) > 1
    )
    assert lines["job"] == "1"
    assert lines["state"] == "FAILED: 1 of 3 tasks failed"
    assert lines["command"] == "sleep 10"
    assert lines["cwd"] == "/data"
    assert lines["array"] == "0-2"
    assert lines["tasks"] == "2 completed, 1 failed"
    assert re.search(r"^1\.1 +1 +w1 +FAILED .* exit code 1$", result.out, re.MULTILINE)


def test_a_failed_job_ends_with_the_last_lines_of_its_stderr(
    failed: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    manager.write(failed, b"\x1b[31mboom\xff\n", 1, err=True)
    last = titan("show", "1").out.splitlines()[-3:]
    assert last[0].startswith("Last lines of 1.1's stderr (/out/1.err)")
    assert last[1:] == ["  line 1", "  \\x1b[31mboom\ufffd"]


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"time_limit_ms": 5_400_000}, "1h30m, by SIGKILL"),
        ({"time_limit_ms": 250, "grace_ms": 10_000}, "0.25s, SIGKILL 10s later"),
        (
            {"time_limit_ms": 90_000, "end_signal": 10, "end_signal_before_ms": 60_000},
            "1m30s, by SIGKILL, SIGUSR1 1m before",
        ),
        (
            {"time_limit_ms": 90_000, "end_signal": 40, "end_signal_before_ms": 60_000},
            "1m30s, by SIGKILL, signal 40 1m before",
        ),
    ],
)
def test_a_time_limit_is_shown_with_what_comes_before_and_after_it(
    manager: FakeManager, titan: Titan, limit: dict[str, int], text: str
) -> None:
    manager.add_job(**limit)
    assert f"time limit   {text}\n" in titan("show", "1").out
    seconds = json.loads(titan("show", "--json", "1").out)["time_limit_seconds"]
    assert seconds == limit["time_limit_ms"] / 1000


def test_what_ran_into_its_limit_says_so_once_wherever_it_is_shown(
    manager: FakeManager, titan: Titan
) -> None:
    job = manager.add_job(time_limit_ms=5_400_000)
    detail = "ran into its time limit of 1h30m"
    manager.run(job)
    manager.end(job, signal=15, reason=types_pb2.REASON_TIMEOUT, detail=detail)
    shown = titan("show", "1").out
    assert f"state        FAILED: TIMEOUT, {detail}\n" in shown
    assert not re.search("^detail", shown, re.MULTILINE)
    assert re.search(rf"^1 +1 +w1 +FAILED .* TIMEOUT, {detail}$", shown, re.MULTILINE)
    assert titan("queue", "--all").out.endswith(f"TIMEOUT, {detail}\n")
    assert json.loads(titan("show", "--json", "1").out)["reason"] == "TIMEOUT"
    assert titan("wait", "1").code == 124


def test_stderr_that_cannot_be_read_does_not_hide_the_job(
    failed: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    manager.fail("StreamOutput", grpc.StatusCode.FAILED_PRECONDITION, "w1 is DISCONNECTED")
    result = titan("show", "1")
    assert result.code == 0
    assert "w1 is DISCONNECTED" in result.out


def test_the_failed_task_is_found_when_its_attempt_is_not_among_those_shown(
    failed: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    result = titan("show", "1", "--attempts", "1")
    assert "(1 of 3 attempts" in result.out
    assert result.out.endswith("  line 1\n")


def test_json_has_the_attempts_that_were_asked_for(failed: manager_pb2.Job, titan: Titan) -> None:
    view = json.loads(titan("show", "--json", "1").out)
    assert [attempt["index"] for attempt in view["attempts"]] == [0, 1, 2]
    view = json.loads(titan("show", "--json", "1", "--state", "failed").out)
    assert [attempt["index"] for attempt in view["attempts"]] == [1]
    assert view["attempts_total"] == 3
    assert view["exit_code"] == 1
    assert json.loads(titan("show", "1.2", "--json").out)["attempts"][0]["index"] == 2
    assert json.loads(titan("show", "1", "--attempts", "0", "--json").out)["attempts"] == []


def test_a_task_is_asked_for_with_all_its_attempts(
    failed: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    titan("show", "1")
    titan("show", "1.1")
    asked = [request.attempts_limit for request in manager.called("GetJobStatus")]
    assert asked[0] == 100
    assert asked[1] >= 10_000


def test_jobs_are_named_by_last_and_by_name(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(user=os_user(), name="mine")
    manager.add_job(user="bob", name="his")
    assert json.loads(titan("show", "last", "--json").out)["name"] == "mine"
    assert json.loads(titan("show", "name:his", "--json").out)["job_id"] == 2


@pytest.mark.parametrize(("job", "code"), [("9", 4), ("name:none", 4), ("x", 2), ("1.x", 2)])
def test_a_job_that_is_not_there_or_is_none_has_its_exit_code(
    manager: FakeManager, titan: Titan, job: str, code: int
) -> None:
    result = titan("show", job)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("titan: ")


def test_a_cancel_says_what_became_of_each_job(manager: FakeManager, titan: Titan) -> None:
    for _ in range(3):
        manager.add_job()
    manager.run(manager.jobs[2])
    manager.run(manager.jobs[3])
    manager.end(manager.jobs[3])
    result = titan("cancel", "1", "2", "3", "--grace", "1m", "--signal", "int")
    assert result.code == 0
    assert result.out.splitlines() == [
        "Cancelled job 1",
        "Cancelling job 2: RUNNING (cancelling)",
        "Job 3 had already ended: COMPLETED",
    ]
    assert manager.called("CancelJob")[0].grace_ms == 60_000
    assert manager.called("CancelJob")[0].signal == 2
    bad = titan("cancel", "1", "--signal", "NONE")
    assert bad.code == 2
    assert "is no signal: write it as INT or USR1" in bad.err
    assert json.loads(titan("cancel", "3", "--json").out) == [
        {"job_id": 3, "state": "COMPLETED", "exit_code": 0}
    ]


def test_a_cancel_by_filter_sends_the_filter(manager: FakeManager, titan: Titan) -> None:
    manager.add_job()
    assert titan("cancel", "--state", "pending", "--me", "--name", "x").code == 0
    request = manager.called("CancelJob")[0]
    assert not request.jobs
    assert list(request.filter.states) == [types_pb2.PENDING]
    assert (request.filter.user, request.filter.name) == (os_user(), "x")
    assert titan("cancel", "--state", "SCHEDULED").out == "No job matches.\n"


@pytest.mark.parametrize("arguments", [[], ["1", "--me"], ["x"], ["1", "--grace", "5"]])
def test_a_cancel_that_names_nothing_or_too_much_is_a_usage_error(
    manager: FakeManager, titan: Titan, arguments: list[str]
) -> None:
    assert titan("cancel", *arguments).code == 2
    assert manager.called("CancelJob") == []


def test_workers_are_a_table_or_json(manager: FakeManager, titan: Titan) -> None:
    manager.workers.append(
        manager_pb2.Worker(
            worker_id=bytes(16),
            name="w1",
            address="127.0.0.1:7",
            state=types_pb2.HEALTHY,
            capacity=types_pb2.Resources(cpus_milli=8000, memory_bytes=2**34, named={"gpu": 2}),
            free=types_pb2.Resources(cpus_milli=500, memory_bytes=2**33, named={"gpu": 1}),
            labels={"zone": "a"},
            running=3,
            statistics=manager_pb2.NodeStatistics(
                cpu_percent=12.34,
                load_1m=0.5,
                memory_used_bytes=5,
                memory_total_bytes=7,
                disk_free_bytes=3 << 30,
            ),
            limits="memory: cgroup v2, pids: cgroup v2, cpu: none",
        )
    )
    heading, line = titan("workers").out.splitlines()
    assert heading.split()[:6] == ["WORKER", "STATE", "RUNNING", "QUEUED", "CPUS", "MEMORY"]
    assert line.split() == [
        *("w1", "HEALTHY", "3", "0", "0.5/8", "8G/16G", "gpu=1/2", "zone=a"),
        *("cgroup", "v2", "0.50", "3G", "-", "127.0.0.1:7"),
    ]
    (view,) = json.loads(titan("workers", "--json").out)
    assert view["labels"] == {"zone": "a"}
    assert (view["cpu_percent"], view["load_1m"], view["disk_free_bytes"]) == (12.3, 0.5, 3 << 30)
    assert view["last_heartbeat_time"] is None


def test_stats_are_lines_or_json(manager: FakeManager, titan: Titan) -> None:
    manager.add_job()
    out = titan("stats").out
    assert "recovered    7 records in 0.25 s" in out
    assert "cpus         1.5/4 free" in out
    assert "resources    gpu 0/2 free" in out
    assert json.loads(titan("stats", "--json").out)["jobs"]["pending"] == 1


def test_when_and_where_a_job_may_run_is_shown_as_far_as_it_was_asked_for(
    manager: FakeManager, titan: Titan
) -> None:
    submitted = titan(
        *("submit", "--array", "0-9%4", "--after", "42", "--after", "43.7:any"),
        *("--constraint", "zone in a,b", "--affinity", "self", "--affinity", "42"),
        *("--anti-affinity", "self", "--anti-affinity", "43", "--spread", "rack", "--exclusive"),
        *("--retries", "3", "--retry-on", "1,2,75", "--max-fails", "0", "--preemptible"),
        *("--begin", "2100-01-01 10:00", "--deadline", "2100-01-02", "--hold", "x"),
    )
    assert submitted.code == 0
    lines = dict(line.split(maxsplit=1) for line in titan("show", "1").out.splitlines())
    assert lines["state"] == "PENDING (held)"
    assert lines["after"] == "42, 43.7:any"
    assert lines["placement"] == (
        "zone in (a,b), all tasks on one worker, near job 42, each task on another worker, "
        "not near job 43, spread over rack, nothing else on its worker"
    )
    assert lines["array"] == (
        "0-9, at most 4 at once, the rest is cancelled after the first failure"
    )
    assert lines["retries"] == "3, only after exit code 1, 2 or 75"
    assert lines["begins"] == "2100-01-01 10:00:00"
    assert lines["deadline"] == "2100-01-02 00:00:00"
    assert lines["priority"] == "0, preemptible"
    view = json.loads(titan("show", "--json", "1").out)
    assert view["after"] == [
        {"job_id": 42, "condition": "ok", "index": None, "same_index": False},
        {"job_id": 43, "condition": "any", "index": 7, "same_index": False},
    ]
    assert (view["constraints"], view["spread"]) == (["zone in (a,b)"], "rack")
    assert (view["affinity"], view["anti_affinity"]) == (["self", "42"], ["self", "43"])
    assert (view["array"], view["array_limit"], view["max_fails"]) == ("0-9", 4, 0)
    assert (view["retries"], view["retry_on"]) == (3, [1, 2, 75])
    assert (view["exclusive"], view["preemptible"], view["held"]) == (True, True, True)
    assert view["begin_time"] < view["deadline_time"]


def test_a_job_that_runs_at_most_once_says_that_there_are_no_retries(
    manager: FakeManager, titan: Titan
) -> None:
    titan("submit", "--at-most-once", "x")
    lines = dict(line.split(maxsplit=1) for line in titan("show", "1").out.splitlines())
    assert lines["retries"] == "none: each task runs at most once"
    assert json.loads(titan("show", "--json", "1").out)["at_most_once"] is True


def test_of_a_job_that_asked_for_none_of_it_no_line_is_shown(
    manager: FakeManager, titan: Titan
) -> None:
    titan("submit", "x")
    names = {line.split()[0] for line in titan("show", "1").out.splitlines()}
    assert not names & {"after", "placement", "retries", "begins", "deadline", "array"}


def test_of_an_event_times_are_told_as_times_and_what_was_asked_for_as_its_own_words() -> None:
    scheduling = {"held": True, "retries": 3, "begin_us": 1_700_000_000_000_000}
    fields = {"job_id": 1, "not_before_us": 0, "scheduling": scheduling}
    event = manager_pb2.Event(event="JobSubmitted", fields=json.dumps(fields))
    assert event_words(event) == f'held=true retries=3 begin="{local_time(1_700_000_000)}"'
    event.fields = json.dumps({"until_us": 1_700_000_000_000_000, "scheduling": {}})
    assert event_words(event) == f'until="{local_time(1_700_000_000)}"'
