"""Commands against a real cluster: what they exit with, and the JSON that scripts rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import REPOSITORY, Cluster, wait_until
from tests.e2e.tasks import Gate, given_labels
from titan.client.connection import os_user

JOB_FIELDS = {
    "job_id", "name", "user", "state", "reason", "detail", "cancel_requested", "waiting_for",
    "command", "cwd", "cpus", "memory_bytes", "resources", "priority", "retries",
    "retry_on", "time_limit_seconds", "on", "umask", "script", "interpreter", "stdin",
    "stdout", "stderr", "ulimits", "pids_limit", "cpu_limit", "pin", "array",
    "run_as", "sandbox", "no_network", "trace_id", "secret_env",
    "after", "constraints", "affinity", "anti_affinity", "spread", "exclusive", "array_limit",
    "at_most_once", "max_fails", "begin_time", "deadline_time", "preemptible", "held", "suspended",
    "submit_time", "start_time", "end_time",
    "exit_code", "signal", "tasks", "attempts_total",
}  # fmt: skip
ATTEMPT_FIELDS = {
    "index", "attempt", "worker", "state", "reason", "detail", "exit_code", "signal", "start_time",
    "end_time", "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "rss_bytes",
    "stdout_path", "stderr_path",
}  # fmt: skip
WORKER_FIELDS = {
    "worker_id", "name", "address", "state", "reason", "cpus", "cpus_free", "memory_bytes",
    "memory_free_bytes", "resources", "resources_free", "labels", "running", "queued",
    "last_heartbeat_time", "version", "draining", "limits",
    "cpu_percent", "load_1m", "memory_used_bytes", "memory_total_bytes", "disk_free_bytes",
}  # fmt: skip
COUNTS = {"pending", "scheduled", "running", "completed", "failed", "cancelled"}

# A line of shell, and what run, wait and submit --wait exit with.
ENDS = [
    ("exit 0", 0),
    ("exit 3", 3),
    ("exit 255", 255),
    ("kill -KILL $$", 137),
    ("kill -TERM $$", 143),
]


@pytest.mark.parametrize(("line", "code"), ENDS, ids=[line for line, _ in ENDS])
def test_run_and_wait_exit_as_the_job_did(shared: Cluster, line: str, code: int) -> None:
    result = shared.process("run", "--shell", f"echo out; echo err >&2; {line}")
    assert result.returncode == code
    assert result.stdout == b"out\n"
    told = result.stderr.decode()
    assert told.startswith("err\n")
    state = "FAILED" if code else "COMPLETED"
    assert re.search(rf"^job \d+ {state}.* on w[12] after \d+\.\d s$", told, re.M), told
    assert shared.process("wait", "last").returncode == code


def test_a_command_that_does_not_exist_is_told_with_the_systems_reason(shared: Cluster) -> None:
    result = shared.titan("run", "--name", "absent", "no-such-command", "x")
    assert result.returncode == 127
    assert b"no program no-such-command on the task's PATH on w" in result.stderr
    view = shared.json("show", "name:absent")
    assert (view["state"], view["reason"], view["exit_code"]) == ("FAILED", "LAUNCH_ERROR", None)
    assert "no-such-command" in view["detail"]
    # It wrote nothing, so there is nothing to show of it.
    assert "Last lines" not in shared.titan("show", "name:absent").stdout.decode()
    by_path = shared.titan("run", "/no/such/program")
    assert by_path.returncode == 127
    assert b"No such file or directory" in by_path.stderr
    not_executable = shared.titan("run", "/etc/passwd")
    assert not_executable.returncode == 127
    assert b"Permission denied" in not_executable.stderr
    one_word = shared.titan("run", "echo one word")
    assert one_word.returncode == 127
    assert b"--shell?" in one_word.stderr
    no_directory = shared.titan("run", "--cwd", "/no/such/directory", "true")
    assert no_directory.returncode == 127
    assert b"no directory /no/such/directory on w" in no_directory.stderr
    assert b"--cwd" in no_directory.stderr


def test_several_jobs_waited_for_exit_as_the_first_that_failed(shared: Cluster) -> None:
    jobs = [shared.submit("--shell", f"exit {code}") for code in (0, 4, 5)]
    result = shared.titan("wait", "--json", *map(str, jobs))
    assert result.returncode == 4
    assert json.loads(result.stdout) == [
        {"job_id": jobs[0], "state": "COMPLETED", "exit_code": 0},
        {"job_id": jobs[1], "state": "FAILED", "exit_code": 4},
        {"job_id": jobs[2], "state": "FAILED", "exit_code": 5},
    ]
    assert shared.titan("submit", "--wait", "--shell", "exit 6").returncode == 6


def test_wait_gives_up_after_its_timeout_with_125(shared: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = shared.submit("--shell", gate.line())
    result = shared.titan("wait", "--timeout", "300ms", str(job))
    assert result.returncode == 125
    assert str(job).encode() in result.stderr
    gate.open()
    assert shared.titan("wait", str(job)).returncode == 0


def test_every_field_of_a_job_is_in_its_json_while_it_waits_and_when_it_has_ended(
    shared: Cluster,
) -> None:
    before = time.time()
    submitted = shared.json(
        "submit", "--name", "käse", "--cpus", "99", "--memory", "1GiB", "--resource", "gpu=1",
        "--priority", "-5", "--cwd", "/tmp", "echo", "a b", "--json",
    )  # fmt: skip
    assert set(submitted) == {"job_id"}
    job = submitted["job_id"]
    view = shared.json("show", str(job))
    assert set(view) == JOB_FIELDS | {"attempts"}
    assert set(view["tasks"]) == COUNTS
    assert 0 <= view["submit_time"] - before < 20
    expected = {
        "job_id": job, "name": "käse", "user": os_user(), "state": "PENDING", "reason": None,
        "detail": None, "cancel_requested": False, "command": ["echo", "a b", "--json"],
        "cwd": "/tmp", "cpus": 99, "memory_bytes": 1 << 30, "resources": {"gpu": 1},
        "priority": -5, "retries": 0, "time_limit_seconds": None, "umask": None, "array": None,
        "script": None, "interpreter": None, "stdin": None, "stdout": None, "stderr": None,
        "ulimits": {}, "pids_limit": None, "cpu_limit": False, "pin": False,
        "run_as": None, "sandbox": None, "no_network": False, "trace_id": None, "secret_env": [],
        "retry_on": [], "after": [], "constraints": [], "affinity": [], "anti_affinity": [],
        "spread": None, "exclusive": False, "array_limit": None, "max_fails": None,
        "begin_time": None, "deadline_time": None, "preemptible": False, "held": False,
        "at_most_once": False,
        "suspended": False,
        "start_time": None, "end_time": None, "exit_code": None, "signal": None, "attempts": [],
        "attempts_total": 0, "tasks": dict.fromkeys(COUNTS, 0) | {"pending": 1},
    }  # fmt: skip
    assert {key: view[key] for key in expected} == expected
    # More than any worker has: it waits, and says what for.
    assert "99" in view["waiting_for"]
    assert view["waiting_for"] in shared.ok("show", str(job)).decode()
    (listed,) = shared.json("queue", "--name", "käse")
    assert set(listed) == JOB_FIELDS
    assert listed == {key: view[key] for key in JOB_FIELDS}
    (cancelled,) = shared.json("cancel", str(job))
    assert cancelled == {"job_id": job, "state": "CANCELLED", "exit_code": None}

    ended = shared.submit("--shell", "exit 3")
    shared.titan("wait", str(ended))
    view = shared.json("show", str(ended))
    assert set(view) == JOB_FIELDS | {"attempts"}
    assert (view["state"], view["reason"], view["exit_code"]) == ("FAILED", "EXIT", 3)
    assert before < view["submit_time"] <= view["start_time"] <= view["end_time"] < time.time()
    (attempt,) = view["attempts"]
    assert set(attempt) == ATTEMPT_FIELDS
    assert attempt["worker"] in ("w1", "w2")
    assert attempt["max_rss_bytes"] > 0
    assert attempt["cpu_user_seconds"] >= 0
    assert Path(attempt["stdout_path"]).read_bytes() == b""
    assert attempt["stdout_path"].endswith(f"/output/{ended}/0/0.1.out")


def test_every_field_of_workers_and_stats_is_in_their_json(shared: Cluster) -> None:
    first, second = shared.json("workers")
    assert set(first) == set(second) == WORKER_FIELDS
    assert (first["name"], first["state"], first["cpus"]) == ("w1", "HEALTHY", 6)
    assert (first["resources"], given_labels(first)) == ({"gpu": 2}, {"zone": "a"})
    assert first["memory_bytes"] == 8 << 30
    assert (second["resources"], given_labels(second)) == ({}, {})
    assert time.time() - first["last_heartbeat_time"] < 20
    stats = shared.json("stats")
    assert set(stats["jobs"]) == set(stats["tasks"]) == COUNTS
    assert stats["workers"]["healthy"] == 2
    assert stats["cpus"] == 12
    told = shared.ok("workers").decode()
    assert told.splitlines()[0].split()[:4] == ["WORKER", "STATE", "RUNNING", "QUEUED"]
    assert "gpu=2/2" in told


def test_an_array_is_one_job_whose_tasks_are_named_by_their_indexes(shared: Cluster) -> None:
    job = shared.submit("--array", "1,5,7-9", "--shell", "exit $((TITAN_TASK_INDEX == 7))")
    assert shared.titan("wait", str(job)).returncode == 1
    view = shared.json("show", str(job))
    assert (view["array"], view["state"], view["exit_code"]) == ("1,5,7-9", "FAILED", 1)
    assert (view["tasks"]["completed"], view["tasks"]["failed"]) == (4, 1)
    assert sorted(each["index"] for each in view["attempts"]) == [1, 5, 7, 8, 9]
    assert [each["index"] for each in shared.json("show", f"{job}.8")["attempts"]] == [8]
    (failed,) = shared.json("show", "--state", "FAILED", str(job))["attempts"]
    assert failed["index"] == 7
    assert len(shared.json("show", "--attempts", "2", str(job))["attempts"]) == 2
    assert shared.titan("wait", f"{job}.8").returncode == 0
    assert shared.titan("wait", f"{job}.7").returncode == 1
    assert shared.titan("show", f"{job}.2").returncode == 4
    stepped = shared.submit("--array", "0-10:5", "true")
    shared.ok("wait", str(stepped))
    indexes = [each["index"] for each in shared.json("show", str(stepped))["attempts"]]
    assert sorted(indexes) == [0, 5, 10]


def test_the_same_request_id_is_the_same_job_and_never_another(shared: Cluster) -> None:
    first = shared.submit("--request-id", "once", "true")
    assert shared.submit("--request-id", "once", "true") == first
    other = shared.titan("submit", "--request-id", "once", "false")
    assert other.returncode == 2
    assert b"this request id was used for something else" in other.stderr
    said = shared.ok("submit", "true")
    assert said.startswith(b"Submitted job ")
    # Nothing of it runs when others look at what does.
    shared.ok("wait", str(first), str(int(said.split()[2])))


def test_the_queue_lists_what_has_not_ended_and_all_with_all(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    job = shared.submit("--name", "listed", "--shell", gate.line())
    gate.wait_runs(1)
    wait_until(lambda: shared.json("show", str(job))["state"] == "RUNNING")
    lines = shared.ok("queue").decode().splitlines()
    assert lines[0].split() == [
        "JOB", "NAME", "USER", "STATE", "TASKS", "CPUS", "MEMORY", "PRIORITY", "AGE",
        "WORKER/REASON",
    ]  # fmt: skip
    assert any(line.split()[:4] == [str(job), "listed", os_user(), "RUNNING"] for line in lines)
    assert [each["job_id"] for each in shared.json("queue", "--state", "RUNNING")] == [job]
    gate.open()
    shared.ok("wait", str(job))
    assert job not in [each["job_id"] for each in shared.json("queue")]
    assert shared.json("queue", "--all", "--limit", "1")[0]["job_id"] == job
    assert shared.json("queue", "--name", "listed", "--state", "COMPLETED")[0]["job_id"] == job


def test_the_log_is_told_alike_by_both_dumps(shared: Cluster) -> None:
    job = shared.submit("--env", "A=1", "true")
    shared.ok("wait", str(job))
    directory = shared.manager_directory
    script = [sys.executable, str(REPOSITORY / "tools" / "waldump.py")]
    told = subprocess.run([*script, str(directory)], capture_output=True, check=True).stdout
    by_script = [json.loads(line) for line in told.splitlines()]
    by_command = shared.dump()
    common = min(len(by_script), len(by_command))
    assert by_script[:common] == by_command[:common]
    assert all(list(event)[:3] == ["lsn", "time", "event"] for event in by_command)
    mine = [event["event"] for event in by_command if event.get("job_id") == job]
    assert mine[0] == "JobSubmitted"
    assert mine[-1] == "AttemptEnded"
    assert shared.titan("wal", "dump", str(directory / "wal")).returncode == 0
    nowhere = shared.titan("wal", "dump", str(shared.root / "nowhere"))
    assert nowhere.returncode == 1
    assert b"Traceback" not in nowhere.stderr
